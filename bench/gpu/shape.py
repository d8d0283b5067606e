"""A model folder of gpt-oss-120b's shape, without weights: an engine fills them with noise
(`--load-format dummy`) and then does the work of the real model.

The figures are those of the published model's config.json (huggingface.co/openai/gpt-oss-120b). The
tokenizer is made up: each id is a word, so that engines' own tools, which begin with text, can make
prompts of a known length, and answers are turned into text as they are in earnest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAYERS, VOCABULARY = 36, 201_088
BOS, PAD, EOS = 199_998, 199_999, 200_002
CONFIG: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "num_hidden_layers": LAYERS,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "experts_per_token": 4,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "attention_bias": True,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "rms_norm_eps": 1e-05,
    "rope_theta": 150_000,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
    },
    "initial_context_length": 4096,
    "max_position_embeddings": 131_072,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": BOS,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    },
}


def write_shape(folder: Path) -> Path:
    """Make the folder, of 4 MB; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", CONFIG),
        ("tokenizer.json", _tokenizer()),
        ("tokenizer_config.json", _tokenizer_config()),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _word(number: int) -> str:
    return f"t{number}"


def _tokenizer() -> dict[str, Any]:
    words = {_word(number): number for number in range(VOCABULARY)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": _word(0)},
    }


def _tokenizer_config() -> dict[str, Any]:
    special = {"bos_token": BOS, "pad_token": PAD, "eos_token": EOS}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONFIG["max_position_embeddings"],
        **{name: _word(number) for name, number in special.items()},
    }
