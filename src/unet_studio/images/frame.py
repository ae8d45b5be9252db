"""One time point of an array that is too large to be held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Frame:
    """One frame of a Zarr array, to read and write: slicing such an array makes a copy.

    Parameters
    ----------
    array : zarr.Array
        T first if it has frames.
    frame : int, optional
        Which one; None if there is no T.
    """

    def __init__(self, array: Any, frame: int | None) -> None:
        self._array = array
        self._first: tuple[int, ...] = () if frame is None else (frame,)
        self.shape = tuple(array.shape[len(self._first) :])
        self.chunks = tuple(array.chunks[len(self._first) :])
        self.dtype = array.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._array[self._key(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[self._key(key)] = value

    def _key(self, key: Any) -> tuple[Any, ...]:
        return (*self._first, *(key if isinstance(key, tuple) else (key,)))
