"""Prompt log-probabilities: what each token of a prompt was worth to the model.

Continuous batching has none, so they come from a forward pass of its own, on a thread of its own.
Batching switches its model to paged attention; the passes here run on a twin, a second model
object that has the same weights in memory and keeps its plain attention.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """One prompt token, given all before it; the first token has none."""

    token: int
    logprob: float  # natural logarithm
    rank: int  # 1: the most likely token


class Scorer:
    """Made before continuous batching is. One pass at a time: its memory grows with the prompt."""

    def __init__(self, model: Any) -> None:
        shared = {id(weight): weight for weight in model.parameters()}
        self._twin = copy.deepcopy(model, shared)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scores")

    def submit(self, prompt: Sequence[int]) -> Future[list[Score]]:
        return self._thread.submit(self._score, prompt)

    def _score(self, prompt: Sequence[int]) -> list[Score]:
        import torch

        ids: Any = torch.tensor([prompt], device=self._twin.device)
        with torch.inference_mode():
            logits = self._twin(ids, use_cache=False).logits[0, :-1].float()
            chosen = logits.gather(1, ids[0, 1:, None])
            logprobs = (chosen[:, 0] - logits.logsumexp(1)).tolist()
            ranks = ((logits > chosen).sum(1) + 1).tolist()
        return [Score(*found) for found in zip(prompt[1:], logprobs, ranks, strict=True)]
