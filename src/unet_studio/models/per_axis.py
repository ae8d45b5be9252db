"""One number for all axes, or one per axis: strides, halos and patches are either."""

from __future__ import annotations

from collections.abc import Sequence

PerAxis = int | tuple[int, ...]


def spread(value: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return one number per axis, order [Z] Y X.

    Raises
    ------
    ValueError
        If there are several numbers, but not ``ndim``.
    """
    if isinstance(value, int):
        return (value,) * ndim
    if len(value) != ndim:
        raise ValueError(f"{tuple(value)} has {len(value)} numbers for {ndim} axes")
    return tuple(int(v) for v in value)


def joined(values: Sequence[int]) -> PerAxis:
    """Return one number if all axes have the same, else all of them."""
    return int(values[0]) if len(set(values)) == 1 else tuple(int(v) for v in values)


def in_words(value: int | Sequence[int]) -> str:
    """Return "96", or "32 × 96 × 96"."""
    return str(value) if isinstance(value, int) else " × ".join(str(v) for v in value)
