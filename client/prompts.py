"""Requests, made once per sample and shared by all workers: the head's last line and the body.

They lie in an anonymous file that every worker maps: 6396 prompts of 8,000 ids are 350 MB, which
neither have to be copied into each process nor serialised again for each query.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from backends.base import Backend
from core.config import Sampling


@dataclass(frozen=True, slots=True)
class Prompts:
    """Descriptors of the bodies and their index; the owner closes them."""

    bodies_fd: int
    index_fd: int
    lengths: npt.NDArray[np.int32]  # of the prompts, in tokens
    limits: npt.NDArray[np.int32]  # of their answers: max_tokens

    @property
    def n_samples(self) -> int:
        return len(self.lengths)

    def close(self) -> None:
        os.close(self.bodies_fd)
        os.close(self.index_fd)


def encode_prompts(
    prompts: Sequence[npt.NDArray[np.int32]],
    backend: Backend,
    sampling: Sampling,
    *,
    stream: bool,
    limits: Sequence[int] | None = None,
) -> Prompts:
    """Encode every prompt (int32 token ids) for `backend`.

    limits: each prompt's own max_tokens, in place of the one in `sampling`.
    """
    bodies_fd, index_fd = os.memfd_create("bodies"), os.memfd_create("index")
    offsets = np.zeros(len(prompts) + 1, np.int64)
    most = np.full(len(prompts), sampling.max_tokens, np.int32)
    if limits is not None:
        most[:] = limits
    with open(bodies_fd, "wb", closefd=False) as bodies:
        for i, prompt in enumerate(prompts):
            own = sampling if limits is None else replace(sampling, max_tokens=int(most[i]))
            body = backend.encode(prompt, own, stream=stream)
            written = bodies.write(b"Content-Length: %d\r\n\r\n" % len(body)) + bodies.write(body)
            offsets[i + 1] = offsets[i] + written
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    with open(index_fd, "wb", closefd=False) as index:
        index.write(offsets.tobytes() + lengths.tobytes() + most.tobytes())
    return Prompts(bodies_fd, index_fd, lengths, most)


def read_index(fd: int, n_samples: int) -> tuple[list[int], list[int], list[int]]:
    """Body offsets (n + 1), prompt lengths (n) and answer limits (n), as Python integers for
    quick look-up."""
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    end = 8 * (n_samples + 1)
    numbers = np.frombuffer(data[end:], np.int32).tolist()
    return (
        np.frombuffer(data[:end], np.int64).tolist(),
        numbers[:n_samples],
        numbers[n_samples:],
    )
