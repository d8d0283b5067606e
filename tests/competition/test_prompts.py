"""Random prompts: InferenceMAX's lengths and ids, without the repeats between points."""

from __future__ import annotations

import numpy as np
import pytest

from competition.profile import Lengths
from competition.prompts import PromptSet, make_prompts
from core.errors import ConfigError

LENGTHS = Lengths(1000, 100)


def made(n: int = 40, *, ratio: float = 0.8, seed: tuple[int, ...] = (0, 4)) -> PromptSet:
    return make_prompts(LENGTHS, n, ratio=ratio, vocabulary=5000, seed=seed)


def test_lengths_are_uniform_between_the_ratio_and_the_whole() -> None:
    found = made(4000)
    inputs = [len(prompt) for prompt in found.prompts]
    assert (min(inputs), max(inputs)) == (800, 1000)
    assert (min(found.output_lengths), max(found.output_lengths)) == (80, 100)
    assert abs(np.mean(inputs) - 900) < 4 and abs(np.mean(found.output_lengths) - 90) < 0.5
    assert abs(np.corrcoef(inputs, found.output_lengths)[0, 1]) < 0.1  # drawn apart


def test_a_ratio_of_one_fixes_them() -> None:
    found = made(ratio=1.0)
    assert {len(prompt) for prompt in found.prompts} == {1000}
    assert set(found.output_lengths) == {100}


def test_ids_count_up_from_the_offset_within_the_vocabulary() -> None:
    for prompt in made().prompts:
        assert prompt.dtype == np.int32 and prompt.min() >= 0 and prompt.max() < 5000
        assert set(np.diff(prompt) % 5000) == {1}


def test_the_originals_draws() -> None:
    """Its calls, in its order, on the generator that it uses."""
    random = np.random.RandomState(np.array((0, 4), np.uint32))
    inputs, outputs = random.randint(800, 1001, 40), random.randint(80, 101, 40)
    offsets = random.randint(0, 5000, 40)
    found = made()
    for i, prompt in enumerate(found.prompts):
        assert prompt.tolist() == [(offsets[i] + i + j) % 5000 for j in range(inputs[i])]
    assert list(found.output_lengths) == outputs.tolist()


def test_the_same_seed_gives_the_same_and_no_point_has_anothers() -> None:
    assert [p.tolist() for p in made().prompts] == [p.tolist() for p in made().prompts]
    heads = []
    for conc in (8, 16):
        found = make_prompts(
            LENGTHS, 10 * conc, ratio=1.0, vocabulary=199_998, seed=(0, 1024, 1024, conc)
        )
        heads.append({prompt[:16].tobytes() for prompt in found.prompts})
    assert not heads[0] & heads[1]


@pytest.mark.parametrize(
    ("lengths", "ratio", "value"),
    [(Lengths(10, 1), 1.0, "OSL 1"), (LENGTHS, 0.0, "0"), (LENGTHS, 1.5, "1.5")],
)
def test_what_cannot_be(lengths: Lengths, ratio: float, value: str) -> None:
    with pytest.raises(ConfigError, match=value):
        make_prompts(lengths, 4, ratio=ratio, vocabulary=100, seed=(0,))
