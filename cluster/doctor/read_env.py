"""The environment variables that bear on engines. What is secret never gets further than here."""

from __future__ import annotations

import re
from collections.abc import Mapping

PREFIXES = (
    *("VLLM_", "SGLANG_", "SGL_", "AITER", "HIP_", "ROCR_", "HSA_", "AMD", "GPU_", "ROCM_"),
    *(
        "CUDA_VISIBLE",
        "CUDA_DEVICE",
        "NVIDIA_VISIBLE",
        "NCCL_",
        "RCCL_",
        "TORCH",
        "PYTORCH_",
        "TRITON_",
        "FLASHINFER_",
    ),
    *("HF_", "HUGGING_FACE_", "TRANSFORMERS_", "SAFETENSORS_", "OMP_", "XDG_CACHE_HOME"),
)
SECRET = re.compile(r"(TOKEN|KEYS?|SECRET|PASSWORD|PASSWD|CREDENTIALS?|AUTH)(_|$)")
PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
HIDDEN = "(set, not shown)"


def read_env(environ: Mapping[str, str]) -> dict[str, str]:
    """In the order of names, without secrets."""
    return {
        name: HIDDEN if SECRET.search(name.upper()) else PASSWORD.sub("***@", environ[name])
        for name in sorted(environ)
        if name.startswith(PREFIXES)
    }
