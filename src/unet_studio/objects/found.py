"""What is asked of the objects that a run found, wherever its labels lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Found:
    """Base of the results of runs, in memory and on the disk.

    Attributes
    ----------
    measurements, tracks : dict of array
        One value per object in each column.
    record : dict
        The run record.
    """

    measurements: dict[str, NDArray[Any]]
    tracks: dict[str, NDArray[Any]]
    record: dict[str, Any]

    @property
    def features(self) -> dict[str, NDArray[Any]]:
        """One row per label: the measurements, or of linked objects their summary."""
        if not self.tracks:
            return self.measurements
        from unet_studio.objects.measurements import summarise

        return summarise(self.measurements, self.tracks)

    @property
    def object_count(self) -> int:
        """Number of objects, linked ones once (for class labels: the highest class found)."""
        return int(self.record["objects"]["count"])
