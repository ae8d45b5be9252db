"""Refuse what a header promises but the file or the machine can not hold.

A few hundred bytes can declare an image of terabytes. Everything here compares
numbers from headers; no pixel is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_studio.errors import ImageError

# Deflate packs zeros 1032 : 1, LZMA and Zstandard a few thousand : 1. What
# promises more than this is not an image that somebody recorded.
_LARGEST_RATIO = 20_000
_HARMLESS = 64 * 2**20
# Part of the free memory that one undivided read may take.
_SHARE_OF_FREE = 0.8


def readable_size(count: float) -> str:
    """Return a number of bytes as text: ``"74.5 GiB"``."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(int(math.log(count, 1024)), len(units) - 1) if count >= 1 else 0
    return f"{count / 1024**power:.{0 if power == 0 else 1}f} {units[power]}"


def declared_bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Return the bytes that an array would take, without overflow."""
    return math.prod(int(n) for n in shape) * int(np.dtype(dtype).itemsize)


def available_memory() -> int:
    """Return the free memory of the machine in bytes."""
    import psutil

    return int(psutil.virtual_memory().available)


def check_stored(path: Path, declared: int, stored: int, *, compressed: bool) -> None:
    """Refuse an image of which the file can not hold the pixels.

    Parameters
    ----------
    path : Path
        For the message.
    declared, stored : int
        Bytes that the header promises, and bytes that are there.
    compressed : bool
        Whether fewer bytes than declared may be right.

    Raises
    ------
    ImageError
    """
    too_little = (
        declared > _HARMLESS and declared > stored * _LARGEST_RATIO
        if compressed
        else declared > stored
    )
    if too_little:
        raise ImageError(
            f"{path} declares {readable_size(declared)} of pixels but holds only "
            f"{readable_size(stored)}: it is truncated or damaged. Copy or download it again."
        )


def check_memory(path: Path, needed: int, what: str = "The image") -> None:
    """Refuse a piece that has to be read at once and does not fit into memory.

    Parameters
    ----------
    path : Path
        For the message.
    needed : int
        Bytes.
    what : str
        Subject of the message: what can not be divided.

    Raises
    ------
    ImageError
    """
    free = available_memory()
    if needed > free * _SHARE_OF_FREE:
        raise ImageError(
            f"{path}: {what} takes {readable_size(needed)} of memory, {readable_size(free)} are "
            "free. Save it as OME-Zarr or tiled TIFF, which can be read in parts, or use a "
            "machine with more memory."
        )
