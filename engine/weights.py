"""A model for tests: GPT-OSS's architecture in 190 thousand random, seeded parameters.

Its answers spread over the whole vocabulary and never end by themselves, which the bundled
checkpoint's do not. Made once and kept in a cache folder as an ordinary Hugging Face checkpoint.
Vocabulary: ids 0-255 are bytes, 256 and up are special.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

SEED = 0
SHAPE: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 64,
    "head_dim": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": 128,
    "bos_token_id": 256,
    "pad_token_id": 257,
    # Ten times the usual spread: otherwise all tokens are nearly equally likely, and sampling
    # settings make no difference that one could see.
    "initializer_range": 0.2,
}


def tiny_model(cache: Path) -> Path:
    """The folder of the tiny model; made under `cache` when it is not there yet."""
    recipe = json.dumps([SEED, SHAPE], sort_keys=True).encode()
    folder = cache / f"tiny-gpt-oss-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if not (folder / "config.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _make(folder)
    return folder


def _make(folder: Path) -> None:
    """Build aside and rename, so that two first uses at the same time do not meet half a model."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(SEED)
    model = GptOssForCausalLM(GptOssConfig(**SHAPE))
    aside = Path(tempfile.mkdtemp(dir=folder.parent))
    model.save_pretrained(aside)
    try:
        aside.rename(folder)
    except OSError:
        shutil.rmtree(aside)
        if not (folder / "config.json").exists():
            raise
