"""What to segment: layer, meaning of its axes, level, channels, as one value."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from unet_studio.errors import UNetStudioError
from unet_studio.gui.axes_box import AxesBox
from unet_studio.gui.choice_box import check_box, choice_box, fill_box
from unet_studio.gui.further_channels import FurtherChannels
from unet_studio.gui.layer_box import ImageLayerBox
from unet_studio.gui.layers import level_shapes, volume_from_layer
from unet_studio.gui.layouts import form_layout, show_row
from unet_studio.inference.choice import has_openvino
from unet_studio.inference.eight_bits import has_quantiser
from unet_studio.recipe import Planes, Quality

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from unet_studio.images.volume import VolumeInfo
    from unet_studio.models.card import ModelCard

_QUALITIES: tuple[tuple[str, Quality], ...] = (
    ("Exact", "exact"), ("Balanced", "balanced"), ("Fast", "fast"),
)  # fmt: skip
_COLOURS = ("Red", "Green", "Blue")
# More ways to hand channels to a network than this are not listed.
_MOST_CHOICES = 60


@dataclass(frozen=True)
class InputChoice:
    """What the user chose to segment.

    Attributes
    ----------
    layer : napari image layer
    axes : str or None
        The reading that the user chose; None where it is clear, or not chosen yet.
    level : int
        Level of a multiscale image; 0 is the finest.
    channels : tuple of int or None
        None leaves it to the model.
    quality : str
        How much context tiles get; see :class:`~unet_studio.recipe.Tiling`.
    flips : bool
        Average over mirror images.
    planes : {"xy", "three"}
        Planes of a stack that a 2D model looks at.
    integers : bool
        Compute in integers of 8 bits.
    further : tuple of napari image layers
        The model's second and later channels, where ``layer`` is the first.
    """

    layer: Image
    axes: str | None
    level: int
    channels: tuple[int, ...] | None
    quality: Quality
    flips: bool
    planes: Planes
    integers: bool = False
    further: tuple[Image, ...] = ()


class InputForm(QWidget):
    """Edits an :class:`InputChoice`. Rows that leave no choice are hidden."""

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._card: ModelCard | None = None
        self._watched: Any = None
        self._has_planes = False
        self.layer_box = ImageLayerBox(viewer)
        self.axes_box = AxesBox(
            "What the dimensions of this image are. It can not be seen from the numbers alone: "
            "a stack, a movie and channels want different treatment."
        )
        self.level_box = choice_box(
            "Which resolution of this multiscale image to segment. The finest is the slowest."
        )
        self.channels_box = choice_box("Which channel the network looks at, counted from 0.")
        self.quality_box = choice_box(
            "The image is large and cut into tiles. Exact gives what the whole image at once "
            "would. The others are faster and let a few pixels change side at seams: one in "
            "10 000, or one in 1 000."
        )
        for title, quality in _QUALITIES:
            self.quality_box.addItem(title, quality)
        self.flips_box = check_box(
            "Average flips",
            "Let the network look at mirror images too, and average: often a little better, "
            "and 4 times slower (8 times with a 3D model).",
        )
        self.planes_box = check_box(
            "Three planes",
            "Let the network look at the XZ and YZ planes of the stack, too, and average: "
            "steadier from plane to plane where voxels are about cubes, and 3 times slower.",
        )
        self.integers_box = check_box(
            "8-bit integers",
            "Compute in integers of 8 bits on the CPU: most often faster than other numbers "
            "there, and a few pixels in 1 000 may change. The first run with a model takes some "
            "ten seconds longer.",
        )
        self._form = form_layout(self)
        self._lay_out()
        self.further = FurtherChannels(viewer, self._form, self.level_box)
        self._connect()
        self._on_layer()

    def _lay_out(self) -> None:
        self._form.addRow("Layer", self.layer_box)
        self._form.addRow("Axes", self.axes_box)
        self._form.addRow("Level", self.level_box)
        self._form.addRow("Channel", self.channels_box)
        self._form.addRow("Tiles", self.quality_box)
        self._form.addRow("Average flips", self.flips_box)
        self._form.addRow("Three planes", self.planes_box)
        self._form.addRow("8-bit integers", self.integers_box)
        show_row(self._form, self.integers_box, has_openvino() and has_quantiser())
        self.set_tiled(False)

    def _connect(self) -> None:
        self.further.changed.connect(self._emit)
        self.layer_box.layer_changed.connect(self._on_layer)
        self.axes_box.chosen.connect(self._on_axes)
        self.level_box.currentIndexChanged.connect(self._emit)
        self.channels_box.currentIndexChanged.connect(self._emit)
        self.quality_box.currentIndexChanged.connect(self._emit)
        self.flips_box.toggled.connect(self._emit)
        self.planes_box.toggled.connect(self._emit)
        self.integers_box.toggled.connect(self._emit)

    def value(self) -> InputChoice | None:
        """Return the choice, or None if there is no image."""
        layer = self.layer_box.value()
        if layer is None:
            return None
        return InputChoice(
            layer,
            self.axes_box.axes_of(layer),
            max(0, self.level_box.currentIndex()),
            _as_tuple(self.channels_box.currentData()),
            self.quality_box.currentData(),
            self.flips_box.isChecked(),
            "three" if self._has_planes and self.planes_box.isChecked() else "xy",
            self.integers_box.isChecked(),
            self.further.value(),
        )

    def add_row(self, title: str, field: QWidget) -> None:
        """Add a row of the caller's own below, so that all align."""
        self._form.addRow(title, field)

    def show_row(self, field: QWidget, visible: bool) -> None:
        """Show or hide one of these."""
        show_row(self._form, field, visible)

    def set_tiled(self, tiled: bool) -> None:
        """Offer the quality of tiles where there is more than one, or it was changed."""
        changed = self.quality_box.currentIndex() > 0
        show_row(self._form, self.quality_box, tiled or changed)

    def set_card(self, card: ModelCard | None) -> None:
        """Offer what suits a model: its channels, and flips as it wants them."""
        self._card = card
        self._list_channels()
        self._offer_planes()
        self.flips_box.setChecked(card is not None and card.flips)
        self.changed.emit()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self.layer_box.disconnect_viewer()
        self.further.disconnect_viewer()
        self._watch(None)

    def _on_layer(self) -> None:
        layer = self.layer_box.value()
        self._watch(layer)
        self._on_layer_event()

    def _on_layer_event(self, _event: Any = None) -> None:
        layer = self.layer_box.value()
        show_row(self._form, self.axes_box, self.axes_box.offer(layer))
        self._list_levels(layer)
        self._list_channels()
        self._offer_planes()
        self.changed.emit()

    def _watch(self, layer: Image | None) -> None:
        """Follow what decides about axes and size: new data, new axis labels, new scale."""
        for watched, method in ((self._watched, "disconnect"), (layer, "connect")):
            for name in ("data", "axis_labels", "scale", "affine", "units"):
                emitter = getattr(watched.events, name, None) if watched is not None else None
                if emitter is not None:
                    getattr(emitter, method)(self._on_layer_event)
        self._watched = layer

    def _list_levels(self, layer: Image | None) -> None:
        shapes = level_shapes(layer) if layer is not None and layer.multiscale else ()
        entries = [
            (f"{i}: {' × '.join(map(str, shape))}{' (finest)' if i == 0 else ''}", i)
            for i, shape in enumerate(shapes)
        ]
        kept = self.level_box.currentData()
        fill_box(self.level_box, entries, kept if kept is not None and kept < len(entries) else 0)
        show_row(self._form, self.level_box, len(entries) > 1)

    def _list_channels(self) -> None:
        self.further.offer(further_channels(self._card, self._info()))
        entries = channel_entries(self._card, self._info())
        fill_box(self.channels_box, entries, _as_tuple(self.channels_box.currentData()))
        show_row(self._form, self.channels_box, len(entries) > 1)

    def _offer_planes(self) -> None:
        """Offer three planes where there are three, and the model does not see them all."""
        info = self._info()
        two = self._card is not None and self._card.ndim == 2
        self._has_planes = two and info is not None and "Z" in info.axes
        show_row(self._form, self.planes_box, self._has_planes)

    def _info(self) -> VolumeInfo | None:
        layer = self.layer_box.value()
        if layer is None:
            return None
        try:
            return volume_from_layer(layer, self.axes_box.axes_of(layer)).info
        except UNetStudioError:
            return None

    def _on_axes(self) -> None:
        self._list_channels()
        self._offer_planes()
        self.changed.emit()

    def _emit(self, _value: object = None) -> None:
        self.changed.emit()


def further_channels(card: ModelCard | None, info: VolumeInfo | None) -> int:
    """Return how many channels of a model an image does not have, and other layers may be."""
    if card is None or info is None or card.colour or info.rgb or "C" in info.axes:
        return 0
    return card.in_channels - 1


def channel_entries(
    card: ModelCard | None, info: VolumeInfo | None
) -> list[tuple[str, tuple[int, ...] | None]]:
    """Return the ways to hand an image's channels to a model, the usual one first."""
    if card is None or info is None or info.channels == 1:
        return []
    present, needed = range(info.channels), card.in_channels
    entries: list[tuple[str, tuple[int, ...] | None]] = []
    if info.rgb:
        if card.colour or needed in (1, len(present)):
            entries.append(("All, as grey" if needed == 1 else "Colour (RGB)", None))
        if card.colour or needed == 1:
            entries += [(name, (i,)) for i, name in enumerate(_COLOURS)]
        return entries
    if needed == 1 or card.colour:
        entries += [(f"Channel {i}", (i,)) for i in present]
    if needed > 1:
        orders = itertools.islice(itertools.permutations(present, needed), _MOST_CHOICES)
        entries += [(", ".join(map(str, order)), order) for order in orders]
    return entries


def _as_tuple(data: Any) -> tuple[int, ...] | None:
    return None if data is None else tuple(data)  # some Qt bindings give back a list
