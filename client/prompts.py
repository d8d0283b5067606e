"""Requests, made once per sample and shared by all workers: the head's last line and the body.

They lie in an anonymous file that every worker maps: 6396 prompts of 8,000 ids are 350 MB, which
neither have to be copied into each process nor serialised again for each query.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

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

    @property
    def n_samples(self) -> int:
        return len(self.lengths)

    def close(self) -> None:
        os.close(self.bodies_fd)
        os.close(self.index_fd)


def encode_prompts(
    prompts: Sequence[npt.NDArray[np.int32]], backend: Backend, sampling: Sampling, *, stream: bool
) -> Prompts:
    """Encode every prompt (int32 token ids) for `backend`."""
    bodies_fd, index_fd = os.memfd_create("bodies"), os.memfd_create("index")
    offsets = np.zeros(len(prompts) + 1, np.int64)
    with open(bodies_fd, "wb", closefd=False) as bodies:
        for i, prompt in enumerate(prompts):
            body = backend.encode(prompt, sampling, stream=stream)
            written = bodies.write(b"Content-Length: %d\r\n\r\n" % len(body)) + bodies.write(body)
            offsets[i + 1] = offsets[i] + written
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    with open(index_fd, "wb", closefd=False) as index:
        index.write(offsets.tobytes() + lengths.tobytes())
    return Prompts(bodies_fd, index_fd, lengths)


def read_index(fd: int, n_samples: int) -> tuple[list[int], list[int]]:
    """Body offsets (n + 1) and prompt lengths (n), as Python integers for quick look-up."""
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    end = 8 * (n_samples + 1)
    return np.frombuffer(data[:end], np.int64).tolist(), np.frombuffer(
        data[end:], np.int32
    ).tolist()
