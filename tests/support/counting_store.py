"""A Zarr store that counts what is written into it."""

from __future__ import annotations

from typing import Any

from zarr.storage import MemoryStore


class CountingStore(MemoryStore):
    """Holds a Zarr in memory.

    Attributes
    ----------
    written : list of str
        Names of the files that were written, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    async def set(self, key: str, value: Any, byte_range: tuple[int, int] | None = None) -> None:
        """Write a file."""
        self.written.append(key)
        await super().set(key, value, byte_range)
