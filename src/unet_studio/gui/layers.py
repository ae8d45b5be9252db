"""Between napari's layers and the engine's volumes. Runs on the main thread only."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.axes import PIXEL, AmbiguousAxes, Axes, candidate_axes, resolve_axes
from unet_studio.errors import ImageError
from unet_studio.gui.placement import Placement, placement_of, world_steps
from unet_studio.images.stacking import stack_channels
from unet_studio.images.volume import Volume, check_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Image, Labels, Layer
    from numpy.typing import NDArray

METADATA_KEY = "unet_studio"
# Arrays in memory up to this size are copied when a run starts, so that the
# run sees one moment of them. A copy of 256 MiB takes about 0.1 s.
_COPY_LIMIT = 256 * 2**20
SNAPSHOT_KEYS = ("snapshot", "channels_of")
_SIGNATURE_VALUES = 65_536

_WORDS = {
    "T": ("t", "time", "frame", "frames"),
    "C": ("c", "ch", "channel", "channels"),
    "Z": ("z", "depth", "plane", "planes", "slice"),
    "Y": ("y", "row", "rows", "height"),
    "X": ("x", "col", "column", "columns", "width"),
}
_LETTER = {word: letter for letter, words in _WORDS.items() for word in words}
_COLOUR_CANDIDATES = {2: ("YXC",), 3: ("ZYXC", "TYXC"), 4: ("TZYXC",)}


def unwrap(napari_object: Any) -> Any:
    """Return the object behind napari's plugin proxy, so that ``is`` and weakrefs work."""
    return getattr(napari_object, "__wrapped__", napari_object)


def is_overlay(layer: Layer) -> bool:
    """Whether a layer is one of ours that shows what a model finds, and no image to work on."""
    record = layer.metadata.get(METADATA_KEY)
    return isinstance(record, dict) and bool(record.get("overlay"))


def axes_candidates(layer: Image) -> tuple[str, ...]:
    """Return the possible readings of a layer's axes; just one if there is no doubt.

    The layer's axis labels decide where they are meaningful ("z", "time", …).
    RGB layers end in C.

    Raises
    ------
    AxesError
        If the layer has too few or too many dimensions.
    """
    labelled = _labelled_axes(layer)
    if labelled:
        return (labelled,)
    if layer.rgb:
        return _COLOUR_CANDIDATES.get(int(layer.ndim)) or candidate_axes(int(layer.ndim) + 1)
    return candidate_axes(int(layer.ndim))


def layer_axes(layer: Image, chosen: str | None = None) -> str:
    """Return the axes of a layer's array, ``chosen`` by the user where they are ambiguous.

    Raises
    ------
    AmbiguousAxes
        If nothing was chosen and there is more than one reading.
    AxesError
    """
    candidates = axes_candidates(layer)
    if len(candidates) == 1:
        return candidates[0]
    shape = _level_arrays(layer)[0].shape
    if chosen is None:
        raise AmbiguousAxes(
            f"The layer {layer.name!r} of shape {tuple(shape)} can be read in more than one "
            f"way. Choose its axes: {', '.join(candidates)}.",
            candidates,
        )
    return resolve_axes(shape, chosen, f"The layer {layer.name!r}")


def level_shapes(layer: Image) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each level of a layer, finest first; one if it is not multiscale."""
    return tuple(tuple(int(n) for n in array.shape) for array in _level_arrays(layer))


def volume_from_layer(layer: Image, chosen_axes: str | None = None, level: int = 0) -> Volume:
    """Describe a layer as a volume, without copying or reading a pixel.

    Parameters
    ----------
    layer : napari image layer
    chosen_axes : str, optional
        The user's reading, where axes are ambiguous.
    level : int
        Level of a multiscale image; 0 is the finest.

    Raises
    ------
    AmbiguousAxes, AxesError, ImageError
    """
    array = _level_arrays(layer)[level]
    check_array(array, layer.name)
    names = layer_axes(layer, chosen_axes)
    ndim = int(layer.ndim)
    _check_transform(layer)
    steps = world_steps(layer) * _level_factors(layer, level)
    translate = np.asarray(layer.translate, float)
    units = [str(unit) for unit in getattr(layer, "units", ())] or [PIXEL] * ndim
    entries = [
        (1.0, 0.0, PIXEL) if letter == "C" else (float(step), float(start), unit)
        for letter, step, start, unit in zip(names[:ndim], steps, translate, units, strict=True)
    ]
    entries += [(1.0, 0.0, PIXEL)] * (len(names) - ndim)
    axes = Axes(names, *(tuple(column) for column in zip(*entries, strict=True)))
    return Volume(
        array, axes, name=layer.name, source=f"layer {layer.name!r}", rgb=bool(layer.rgb)
    )


def stacked_volume(
    layer: Image, further: Sequence[Image], chosen_axes: str | None = None, level: int = 0
) -> Volume:
    """Describe a layer, or several as the channels of one image, without reading a pixel.

    Parameters
    ----------
    layer : napari image layer
    further : sequence of napari image layers
        Second and later channels; none leaves the layer as it is.
    chosen_axes, level
        As for :func:`volume_from_layer`; they count for all of the layers.

    Raises
    ------
    AmbiguousAxes, AxesError, ImageError
        Also if a layer does not lie on the first.
    """
    volume = volume_from_layer(layer, chosen_axes, level)
    if not further:
        return volume
    others = []
    for other in further:
        if level >= len(level_shapes(other)):
            raise ImageError(f"The layer {other.name!r} has no level {level}; choose the finest.")
        others.append(volume_from_layer(other, volume.axes.names, level))
        if not _same_transform(layer, other):
            raise ImageError(
                f"The layer {other.name!r} is turned, sheared or placed in another way than "
                f"{layer.name!r}. Channels of one image have to lie on each other; resample it."
            )
    return stack_channels([volume, *others])


def _same_transform(layer: Image, other: Image) -> bool:
    pairs = (
        (np.asarray(getattr(one, name)) for one in (layer, other))
        for name in ("rotate", "shear", "affine")
    )
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in pairs)


@dataclass(frozen=True)
class LayerSnapshot:
    """An image layer as it was when a run started.

    The layer itself may be renamed, painted on, replaced or removed meanwhile.

    Attributes
    ----------
    volume : Volume
        A copy where the array is in memory and not huge, else a reference.
    placement : Placement
        Where the labels go.
    name : str
        Name of the layer at that time.
    taken : datetime
    level : int
        Level of a multiscale image; 0 is the finest.
    copied : bool
        Whether later edits can not reach the run.
    shape : tuple of int
    """

    volume: Volume
    placement: Placement
    name: str
    taken: datetime
    level: int
    copied: bool
    shape: tuple[int, ...]
    signature: int | None
    _layer: weakref.ReferenceType[Layer]

    @property
    def layer(self) -> Layer | None:
        """The source, or None if it is gone."""
        return self._layer()

    def facts(self) -> dict[str, Any]:
        """Return what a result's record says of it, under :data:`SNAPSHOT_KEYS`."""
        facts: dict[str, Any] = {"snapshot": self.taken.isoformat(timespec="seconds")}
        if self.volume.channel_names:
            facts["channels_of"] = list(self.volume.channel_names)
        return facts

    def replaced_by_other_shape(self) -> bool:
        """Whether the layer now holds an image of another shape."""
        layer = self.layer
        if layer is None:
            return False
        shapes = level_shapes(layer)
        return len(shapes) <= self.level or shapes[self.level] != self.shape

    def edited(self) -> bool:
        """Whether the layer's pixels differ from those at the start (as far as a sample shows)."""
        layer = self.layer
        if layer is None or self.signature is None or self.replaced_by_other_shape():
            return False
        return _signature(_level_arrays(layer)[self.level]) != self.signature


def take_snapshot(
    layer: Image,
    chosen_axes: str | None = None,
    level: int = 0,
    further: Sequence[Image] = (),
) -> LayerSnapshot:
    """Capture everything of a layer that a run needs.

    Parameters
    ----------
    layer : napari image layer
    chosen_axes, level, further
        As for :func:`stacked_volume`. Later edits are noticed on the first layer alone.

    Raises
    ------
    AmbiguousAxes, AxesError, ImageError
    """
    first = volume_from_layer(layer, chosen_axes, level)
    volume = stacked_volume(layer, further, chosen_axes, level)
    arrays = [_level_arrays(one)[level] for one in (layer, *further)]
    held = all(isinstance(array, np.ndarray) for array in arrays)
    copied = held and sum(array.nbytes for array in arrays) <= _COPY_LIMIT
    signature = _signature(first.array)
    if copied:
        copy = np.array(arrays[0], order="K") if not further else volume.array[:]
        volume = Volume(
            copy, volume.axes, volume.name, volume.source, volume.rgb, volume.channel_names
        )
    names = first.axes.names[: int(layer.ndim)]
    factors = tuple(_level_factors(layer, level).tolist())
    return LayerSnapshot(
        volume,
        placement_of(layer, names, first.info.length("C"), factors),
        str(layer.name),
        datetime.now().astimezone(),
        level,
        copied,
        first.info.shape,
        signature,
        weakref.ref(unwrap(layer)),
    )


def labels_layer(
    labels: NDArray[np.integer] | list[Any],
    placement: Placement,
    name: str,
    *,
    measurements: Mapping[str, NDArray[Any]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Labels:
    """Make a labels layer that lies exactly on its source.

    Parameters
    ----------
    labels : array of integers, or list of lazy ones
        Axes of the source without C. A list holds the levels of a pyramid, finest
        first, as the layer takes them; such a layer is only read.
    placement : Placement
    name : str
    measurements : mapping of str to array, optional
        Columns, one row per object; "label" holds the object's id.
    metadata : mapping, optional
        Stored under ``layer.metadata["unet_studio"]``.
    """
    from napari.layers import Labels

    lazy = isinstance(labels, list)
    # napari takes a list of one array for a list of its planes.
    data = (labels if len(labels) > 1 else labels[0]) if lazy else placement.arrange(labels)
    layer = Labels(
        data,
        multiscale=lazy and len(labels) > 1,
        name=name,
        features=features_table(measurements or {}),
        metadata={METADATA_KEY: dict(metadata or {})},
        **placement.keywords(),
    )
    if lazy:  # a store that is open for reading takes no paint
        layer.editable = False
    return layer


def features_table(measurements: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return measurements as napari wants them: one row per object, its id as ``index``."""
    if not len(measurements.get("label", ())):
        return {}
    return {"index": np.asarray(measurements["label"]), **measurements}


def _labelled_axes(layer: Layer) -> str | None:
    labels = getattr(layer, "axis_labels", ())
    letters = [_LETTER.get(str(label).strip().lower(), "") for label in labels]
    if not all(letters) or len(set(letters)) != len(letters) or not {"Y", "X"} <= set(letters):
        return None
    if layer.rgb:
        return None if "C" in letters else "".join(letters) + "C"
    return "".join(letters)


def _level_arrays(layer: Layer) -> list[Any]:
    return list(layer.data) if layer.multiscale else [layer.data]


def _level_factors(layer: Layer, level: int) -> NDArray[np.float64]:
    """Return how many of the finest level's pixels one pixel of a level covers, per dimension."""
    shapes = level_shapes(layer)
    ndim = int(layer.ndim)
    return np.divide(shapes[0][:ndim], shapes[level][:ndim])


def _check_transform(layer: Layer) -> None:
    steps = world_steps(layer)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ImageError(
            f"The layer {layer.name!r} has a pixel size of {tuple(steps.tolist())}; each must be "
            "a number above 0. Correct its scale (and affine), then run again."
        )
    if not np.isfinite(np.asarray(layer.translate, float)).all():
        raise ImageError(
            f"The layer {layer.name!r} has a position of {tuple(layer.translate)}; it must be "
            "finite. Correct its translate, then run again."
        )


def _signature(array: Any) -> int | None:
    """Return a hash of an even sample of an array in memory; None for lazy arrays."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.memmap):
        return None
    # Strides that share few factors with image widths, so that every column is met.
    step = max(1, array.size // _SIGNATURE_VALUES) | 1
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    return hash((array.shape, str(array.dtype), np.ascontiguousarray(flat[::step]).tobytes()))
