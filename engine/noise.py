"""Spoil a checkpoint a little: `python -m engine.noise IN OUT --scale S`.

The copy has Gaussian noise on every weight, S times as wide as the weights of its tensor are
spread. An accuracy gate that the trained checkpoint passes must stop this one: the test that it
gates at all. The noise is seeded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.noise", description=__doc__)
    parser.add_argument("source", type=Path, metavar="IN", help="a checkpoint's folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="the copy's, made if need be")
    parser.add_argument("--scale", type=float, required=True, metavar="S", help="0: a plain copy")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    spoil(args.source, args.target, args.scale, args.seed)
    return 0


def spoil(source: Path, target: Path, scale: float, seed: int = 0) -> None:
    """Copy a checkpoint's folder with noise on its weights; their type stays what it is."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    weights = load_file(source / WEIGHTS)
    noisy = {name: _noisy(weights[name], scale, random) for name in sorted(weights)}
    save_file(noisy, target / WEIGHTS, metadata={"format": "pt"})


def _noisy(weight: torch.Tensor, scale: float, random: torch.Generator) -> torch.Tensor:
    wide = weight.float()
    noise = torch.randn(wide.shape, generator=random)
    return (wide + scale * wide.std(correction=0) * noise).to(weight.dtype).contiguous()


if __name__ == "__main__":
    sys.exit(main())
