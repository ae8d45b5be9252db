"""An array that is decoded when it is first looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class DeferredArray:
    """Shape and dtype from a header at once; the pixels on first access, then kept.

    For files that can only be decoded in one go (PNG, JPEG, gzip): listing and
    planning ten thousand of them must not decode any.

    Parameters
    ----------
    shape : sequence of int
    dtype : numpy dtype
    load : callable
        Returns the whole array. Called once, by one thread.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: np.dtype[Any] | type,
        load: Callable[[], NDArray[Any]],
    ) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self._load = load
        self._pixels: NDArray[Any] | None = None
        self._lock = threading.Lock()

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._whole()[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self._whole()
        return np.array(whole, dtype) if copy else np.asarray(whole, dtype)

    def _whole(self) -> NDArray[Any]:
        with self._lock:
            if self._pixels is None:
                pixels = self._load()
                if pixels.shape != self.shape:
                    raise ValueError(
                        f"the header promises shape {self.shape}, the data have {pixels.shape}"
                    )
                # Shared by everybody who reads it: nobody may write.
                pixels.flags.writeable = False
                self._pixels = pixels
            return self._pixels
