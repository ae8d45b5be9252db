"""Which errors say that memory ran out."""

from __future__ import annotations

import torch

# What allocators say: torch's on CPUs (Windows, Linux), CUDA and its libraries, Metal, C++.
_NO_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "alloc_failed", "bad_alloc",
    "failed to allocate",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: on a GPU, or in a CPU's allocator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # All others raise a bare RuntimeError.
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _NO_MEMORY)
