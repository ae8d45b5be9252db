"""One result of a batch beside its image, in the viewer, exactly placed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.axes import Axes
from unet_studio.gui.batch_table import Row
from unet_studio.gui.layers import METADATA_KEY, features_table
from unet_studio.gui.show import placement

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from unet_studio.events import CancelToken
    from unet_studio.images.volume import Volume

SOURCE = "unet_studio_batch"
# Larger arrays are shown lazily: napari reads what is in sight.
_IN_MEMORY = 512 * 2**20
_SAMPLE = 1_000_000


@dataclass(frozen=True)
class Opened:
    """What the viewer is given.

    Attributes
    ----------
    image, labels : array, or list of arrays
        Axes as in ``axes`` and ``labels_axes``; a list holds the levels of a pyramid.
    axes, labels_axes : Axes
        Canonical; an RGB image has its colours last, and no C in ``axes``.
    channels : int or None
        Where the channels of the image are, if they become layers of their own.
    rgb : bool
    limits : tuple of float, or None
    features : dict of array
    record : dict
    """

    image: Any
    labels: Any
    axes: Axes
    labels_axes: Axes
    channels: int | None
    rgb: bool
    limits: tuple[float, float] | None
    features: dict[str, NDArray[Any]]
    record: dict[str, Any]


def load(row: Row, axes: str | None) -> Callable[[CancelToken, Any], Opened]:
    """Return the work of reading a row's image and result, for a job's thread.

    Parameters
    ----------
    row : Row
    axes : str or None
        Of the recipe: what the image's are where the file does not say.
    """

    def work(token: CancelToken, _tell: Any) -> Opened:
        from unet_studio.images.readers import read_image

        image = read_image(Path(row.path), axes, series=row.series)
        labels = read_image(Path(row.labels))
        pixels = _levels(
            image, lambda n: read_image(Path(row.path), axes, series=row.series, level=n)
        )
        token.raise_if_cancelled()
        ids = _levels(labels, lambda n: read_image(Path(row.labels), level=n))
        token.raise_if_cancelled()
        names = image.axes.canonical.names
        at = names.find("C")
        if image.rgb:
            pixels = [np.moveaxis(level, at, -1)[..., :4] for level in pixels]
        return Opened(
            _one_or_all(pixels),
            _one_or_all(ids),
            image.axes.canonical.without("C"),
            labels.axes.canonical,
            at if at >= 0 and not image.rgb else None,
            image.rgb,
            None if image.rgb else _limits(pixels[-1]),
            _features(Path(row.table)) if row.table else {},
            _record(row),
        )

    return work


def show(viewer: Viewer, row: Row, opened: Opened) -> Labels:
    """Add image and labels to a viewer; one that is there already is only selected."""
    for layer in viewer.layers:
        if layer.metadata.get(SOURCE) == row.labels and type(layer).__name__ == "Labels":
            layer.visible = True
            viewer.layers.selection.active = layer
            return layer
    metadata = {SOURCE: row.labels}
    keywords: dict[str, Any] = {"rgb": opened.rgb, "metadata": metadata}
    if opened.channels is not None:
        keywords = {"channel_axis": opened.channels, "metadata": metadata}
    if opened.limits is not None and opened.channels is None:
        keywords["contrast_limits"] = opened.limits
    several = isinstance(opened.image, list)
    viewer.add_image(
        opened.image, name=row.name, multiscale=several, **keywords, **placement(opened.axes)
    )
    labels = viewer.add_labels(
        opened.labels,
        name=f"{row.name} · labels",
        multiscale=isinstance(opened.labels, list),
        features=features_table(opened.features),
        metadata={**metadata, METADATA_KEY: opened.record},
        **placement(opened.labels_axes),
    )
    viewer.reset_view()
    return labels


def _levels(finest: Volume, level: Callable[[int], Volume]) -> list[Any]:
    """Return an image's levels in canonical order: one in memory, or all of them, lazily."""
    size = np.prod(finest.info.shape, dtype=float) * finest.info.dtype.itemsize
    if size <= _IN_MEMORY:
        pixels = finest.read()
        canonical = finest.axes.canonical.names
        if "C" not in canonical:
            pixels = pixels[:, 0] if "T" in canonical else pixels[0]
        return [pixels]
    count = int(finest.metadata.get("levels", 1))
    return [_lazy(finest), *(_lazy(level(n)) for n in range(1, count))]


def _lazy(volume: Volume) -> Any:
    import dask.array as da

    names, canonical = volume.axes.names, volume.axes.canonical.names
    chunks = getattr(volume.array, "chunks", None)
    if chunks is None:  # a file that is read plane by plane
        chunks = tuple(
            n if a in "YX" else 1 for a, n in zip(names, volume.info.shape, strict=True)
        )
    return da.from_array(volume.array, chunks=chunks).transpose(
        [names.index(a) for a in canonical]
    )


def _one_or_all(levels: list[Any]) -> Any:
    return levels if len(levels) > 1 else levels[0]


def _limits(pixels: Any) -> tuple[float, float]:
    """Return contrast limits, out of a sample of the pixels."""
    step = max(1, int((pixels.size / _SAMPLE) ** (1 / pixels.ndim)))
    sample = np.asarray(pixels[(slice(None, None, step),) * pixels.ndim], np.float64)
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, [1, 99.8]).tolist()
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _features(table: Path) -> dict[str, NDArray[Any]]:
    """Read a table of measurements as :func:`measure` returns it, without the units."""
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except OSError:  # the result can be looked at all the same
        return {}
    names = [name.partition(" [")[0] for name in rows[0]] if rows else []
    columns = (np.array(column, float) for column in zip(*rows[1:], strict=True))
    features = dict(zip(names, columns, strict=False))
    if "frame" in features or "label" not in features:
        return {}  # a row for each frame: napari has one for each label
    return {**features, "label": features["label"].astype(np.int64)}


def _record(row: Row) -> dict[str, Any]:
    from unet_studio.images.records import read_record, record_path

    return read_record(record_path(Path(row.labels)))
