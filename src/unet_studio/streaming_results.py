"""What a streamed run leaves on the disk, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.axes import Axes
from unet_studio.errors import OutputError
from unet_studio.events import Event, Started
from unet_studio.images.label_types import smallest_label_dtype
from unet_studio.images.ome_zarr import write_chunked
from unet_studio.images.writers import remove_files, remove_records
from unet_studio.images.zarr_marker import is_ours
from unet_studio.objects.found import Found

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.images.blocks import Each
    from unet_studio.inference.prediction import Prediction
    from unet_studio.objects.streamed import MadeObjects


@dataclass(frozen=True)
class StreamedSegmentation(Found):
    """The result of a streamed run.

    Attributes
    ----------
    path : Path
        The OME-Zarr that holds the labels.
    labels : zarr.Array of unsigned int
        Its full resolution, axes as in ``axes``: read only what you need.
    axes : Axes
        Canonical, without C.
    measurements : dict of array
        One value per object (and frame) in each column; empty if nothing was measured.
    record : dict
        The run record, ready for JSON.
    warnings : tuple of str
    tracks : dict of array
        What became of each object, one value per object in each column
        (:class:`~unet_studio.objects.linking.Tracks`); empty if objects were not
        linked through time.
    """

    path: Path
    labels: Any
    axes: Axes
    measurements: dict[str, NDArray[Any]]
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()
    tracks: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where the results go.

    Attributes
    ----------
    target : Path
        Folder for the labels.
    probabilities : Path or None
        Folder for the probabilities, if they are to be kept.
    beside : Path or None
        After which all other results are called, if not after ``target``. An older result
        there is replaced, too.
    key : str
        Of what the labels are made; goes into their marker.
    """

    target: Path
    probabilities: Path | None = None
    beside: Path | None = None
    key: str = ""

    def check(self) -> None:
        """Refuse places that hold what this program did not write.

        Raises
        ------
        OutputError
        """
        for path in filter(None, (self.target, self.probabilities)):
            check_target(path)


def write_stores(
    prediction: Prediction,
    made: MadeObjects,
    provisional: Any,
    places: Places,
    measure: bool,
    check: Callable[[], None],
    each: Each = map,
    take: bool = False,
) -> Generator[Event, None, StreamedSegmentation]:
    """Replace what is there by the final stores, and say what is in them.

    Parameters
    ----------
    prediction : Prediction
    made : MadeObjects
    provisional : array-like of int
        The labels, axes ``[T] [Z] Y X``.
    places : Places
    measure : bool
        Whether the objects were to be measured.
    check : callable
        Called before each slab; may raise to stop.
    each : callable
        Writes the slabs: ``map``, or what has others do it.
    take : bool
        The labels are an array of :func:`~unet_studio.images.zarr_levels.new_level`, of a
        byte, and nobody else needs them.
    """
    import zarr

    from unet_studio.inference.record import with_objects

    target, probabilities = places.target, places.probabilities
    write = partial(write_chunked, check=check, each=each)
    # From here on it is being replaced.
    older = [f for path in filter(None, (target, places.beside)) for f in remove_records(path)]
    if probabilities is not None:
        yield Started("writing probabilities")
        write(
            prediction.probabilities, prediction.axes, probabilities,
            dtype=np.dtype(np.float16), metadata={}, labels=False,
        )  # fmt: skip
    yield Started("writing labels")
    axes = prediction.axes.without("C")
    warnings = [*prediction.warnings, *made.warnings]
    record = with_objects(
        prediction.record, made, measure=measure, warnings=warnings, seconds=made.seconds
    )
    write(
        provisional, axes, target, metadata={"record": record, "key": places.key}, labels=True,
        dtype=smallest_label_dtype(made.count, objects=made.makes_objects), take=take,
    )  # fmt: skip
    remove_files(older, target, probabilities)
    labels = zarr.open_array(str(target / "0"), mode="r")
    tracks = made.tracks.columns() if made.tracks is not None else {}
    return StreamedSegmentation(
        target, labels, axes, _joined(made.tables), record, tuple(warnings), tracks
    )


def check_target(path: Path) -> None:
    """Refuse a place that holds what this program did not write.

    Raises
    ------
    OutputError
    """
    if path.exists() and not is_ours(path):
        raise OutputError(
            f"{path} exists and was not written by this program, so it stays. Move it away or "
            "choose another name."
        )


def _joined(tables: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    names = tables[0] if tables else ()
    return {name: np.concatenate([t[name] for t in tables]) for name in names}
