"""InferenceMAX's random prompts, as token ids.

Its client draws lengths uniformly from [int(length * ratio), length], input and output apart, and an
offset for each prompt; token j of prompt i is (offset + i + j) modulo the vocabulary. It decodes
the ids and sends text, whose length a tokenizer then makes again; here the ids themselves are sent.

Its seed is 0 everywhere, so that at ratio 1.0 the prompts of CONC=4 are the first ones of CONC=8: an
engine with a prefix cache has half of each later point's prompts already. Here the point is a part
of the seed: a prompt occurs in two points by chance only, as there are as many as the vocabulary has
ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from competition.profile import Lengths
from core.errors import ConfigError

MIN_OUTPUT = 2  # tokens: with fewer there is no time per output token
WARMUP = 1  # a part of the warm-up's seed, whose prompts are others than the measured ones


@dataclass(frozen=True, slots=True)
class PromptSet:
    """What is sent at one point."""

    prompts: tuple[npt.NDArray[np.int32], ...]
    output_lengths: tuple[int, ...]  # each answer's, which is not allowed to be shorter

    def __len__(self) -> int:
        return len(self.prompts)


def make_prompts(
    lengths: Lengths, n: int, *, ratio: float, vocabulary: int, seed: tuple[int, ...]
) -> PromptSet:
    """`n` prompts. Raises ConfigError for lengths or a ratio that cannot be."""
    if lengths.osl < MIN_OUTPUT:
        raise ConfigError(
            f"OSL {lengths.osl}: must be at least {MIN_OUTPUT}: TPOT needs two tokens"
        )
    if not 0 < ratio <= 1:
        raise ConfigError(
            f"RANDOM_RANGE_RATIO {ratio:g}: must be above 0 and at most 1: "
            "the shortest length as a part of the longest, 1.0 for fixed lengths"
        )
    random = np.random.RandomState(np.array(seed, np.uint32))  # the generator of the original
    inputs = _lengths(random, lengths.isl, ratio, n, 1)
    outputs = _lengths(random, lengths.osl, ratio, n, MIN_OUTPUT)
    offsets = random.randint(0, vocabulary, size=n)
    made = (
        ((offset + i + np.arange(length)) % vocabulary).astype(np.int32)
        for i, (offset, length) in enumerate(zip(offsets, inputs, strict=True))
    )
    return PromptSet(tuple(made), tuple(outputs.tolist()))


def _lengths(
    random: np.random.RandomState, longest: int, ratio: float, n: int, least: int
) -> npt.NDArray[np.int64]:
    low = max(least, int(longest * ratio))
    return np.asarray(random.randint(low, longest + 1, size=n), np.int64)
