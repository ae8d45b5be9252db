"""The layers of ours that a session of clicks shows: prompts, boxes and strokes, the proposal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.gui.layers import METADATA_KEY, unwrap
from unet_studio.gui.placement import Placement

if TYPE_CHECKING:
    from napari.layers import Labels, Layer, Points, Shapes
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from unet_studio.clicks.objects import Proposal

# Told apart by shape as well as by colour, and the colours also by the colour-blind
# (Okabe & Ito 2008, Color Universal Design).
POSITIVE, NEGATIVE, PROPOSAL = "#56b4e9", "#e69f00", "#f0e442"
_SYMBOLS = {True: "disc", False: "x"}
_COLOURS = {True: POSITIVE, False: NEGATIVE}
MARK_PX = 13.0  # on the screen, whatever the zoom


@dataclass(frozen=True)
class Mark:
    """A click as it is shown.

    Attributes
    ----------
    position : tuple of float
        Along the axes of the image without C.
    positive : bool
    """

    position: tuple[float, ...]
    positive: bool


def marks_of(proposals: Sequence[Proposal], axes: str) -> tuple[Mark, ...]:
    """Return the clicks of an object on all of its planes.

    Parameters
    ----------
    proposals : sequence of Proposal
    axes : str
        Of the positions: the image's without C.
    """
    found = []
    for proposal in proposals:
        for prompt in proposal.clicks:
            if prompt.kind == "click":
                y, x = prompt.points[0]
                at = {**proposal.place, "Y": y, "X": x}
                found.append(Mark(tuple(float(at[a]) for a in axes), prompt.positive))
    return tuple(found)


class ClickLayers:
    """Makes the layers, keeps them on the image, and knows whether they are still there.

    Parameters
    ----------
    viewer : napari viewer
    name : str
        Of the image.
    placement : Placement
    ndim : int
        Axes of the image without C.
    """

    def __init__(self, viewer: Viewer, name: str, placement: Placement, ndim: int) -> None:
        from napari.layers import Labels, Points, Shapes
        from napari.utils.colormaps import DirectLabelColormap

        self._viewer, self._placement = viewer, placement
        dims = ndim + (placement.inserted is not None)
        self._offset: NDArray[np.float64] = np.zeros(dims)
        colours = DirectLabelColormap(color_dict={None: "transparent", 1: PROPOSAL})
        common: dict[str, Any] = placement.keywords()

        def note(**facts: Any) -> dict[str, Any]:
            return {METADATA_KEY: {"overlay": True, **facts}}

        self.proposal: Labels = Labels(
            np.zeros((1,) * dims, np.uint8),
            name=f"Proposal on {name}",
            colormap=colours,
            opacity=0.5,
            metadata=note(proposal_on=name),
            **common,
        )
        self.proposal.editable = False
        self.shapes: Shapes = Shapes(
            ndim=dims,
            name=f"Boxes and strokes on {name}",
            edge_color=POSITIVE,
            face_color="transparent",
            edge_width=2,
            metadata=note(boxes_on=name),
            **common,
        )
        self.prompts: Points = Points(
            ndim=dims,
            name=f"Clicks on {name}",
            size=MARK_PX,
            border_color="white",
            border_width=0.12,
            canvas_size_limits=(MARK_PX, MARK_PX),
            metadata=note(clicks_on=name),
            **common,
        )
        self._marks: tuple[Mark, ...] = ()
        self.writing = False  # what changes now was not done by the user

    @property
    def all(self) -> tuple[Layer, ...]:
        """Every layer of ours, lowest first, in the viewer or not."""
        return (self.proposal, self.shapes, self.prompts)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The clicks that are shown."""
        return self._marks

    def add(self) -> None:
        """Add proposal and prompts to the viewer, on top, and choose the one to click in."""
        for layer in (self.proposal, self.prompts):
            self._viewer.add_layer(layer)
        self.set_polarity(True)
        self.choose_prompts()

    def choose_shapes(self, mode: str) -> None:
        """Choose the layer of boxes and strokes to draw in; it is added when first needed.

        Parameters
        ----------
        mode : str
            napari's name of the tool.
        """
        if not self.holds(self.shapes):
            self._viewer.add_layer(self.shapes)
            count = len(self._viewer.layers)
            if self.holds(self.prompts):  # which stay on top
                self._viewer.layers.move(count - 2, count)
        self._viewer.layers.selection.active = self.shapes
        self.shapes.mode = mode

    def remove(self) -> None:
        """Take away those that are still there."""
        mine = [layer for layer in reversed(self.all) if self.holds(layer)]
        if not mine:
            return
        # napari collects garbage after each change of layers, which takes long with torch: once.
        with self._viewer.layers.batched_update():
            for layer in mine:
                self._viewer.layers.remove(layer)

    def holds(self, layer: Layer) -> bool:
        """Whether a layer is in the viewer."""
        return any(unwrap(other) is layer for other in self._viewer.layers)

    def choose_prompts(self) -> None:
        """Let clicks in the canvas go to the prompts."""
        if self.holds(self.prompts):
            self.prompts.mode = "pan_zoom"
            self._viewer.layers.selection.active = self.prompts
            self.prompts.cursor = "cross"

    def move(self, placement: Placement) -> None:
        """Follow the image to another place."""
        self._placement = placement
        for layer in self.all:
            for name in ("scale", "rotate", "shear", "affine", "translate"):
                setattr(layer, name, getattr(placement, name))
        self._move_proposal()

    # -- positions ----------------------------------------------------------------

    def to_layer(self, position: Sequence[float]) -> list[float]:
        """Return a position of the image without C as one of these layers."""
        found = [float(p) for p in position]
        if self._placement.inserted is not None:
            found.insert(self._placement.inserted, 0.0)
        return found

    def from_layer(self, position: Sequence[float]) -> tuple[float, ...]:
        """Return a position in these layers as one of the image without C."""
        found = [float(p) for p in position]
        if self._placement.inserted is not None:
            del found[self._placement.inserted]
        return tuple(found)

    def mark_near(self, world: Sequence[float], reach: float) -> Mark | None:
        """Return the click that is shown nearest to a place in the world.

        Parameters
        ----------
        world : sequence of float
        reach : float
            In the world; clicks farther away do not count.
        """
        found: tuple[float, Mark] | None = None
        here = np.asarray(world, float)
        for mark in self._marks:
            if not self._on_slice(here, mark):
                continue
            there = np.asarray(self.prompts.data_to_world(self.to_layer(mark.position)), float)
            n = min(len(here), len(there))
            distance = float(np.linalg.norm(here[-n:] - there[-n:]))
            if distance <= reach and (found is None or distance < found[0]):
                found = distance, mark
        return None if found is None else found[1]

    def _on_slice(self, world: NDArray[np.float64], mark: Mark) -> bool:
        """Whether a mark is on the slice that a place in the world is on."""
        ndim = self.prompts.ndim
        here = np.asarray(self.prompts.world_to_data(world), float)[-ndim:]
        there = np.asarray(self.to_layer(mark.position))
        extra = self._viewer.dims.ndim - ndim
        hidden = [axis - extra for axis in self._viewer.dims.not_displayed if axis >= extra]
        return all(round(here[axis]) == round(there[axis]) for axis in hidden)

    # -- showing ------------------------------------------------------------------

    def show_marks(self, marks: Sequence[Mark]) -> None:
        """Show exactly these clicks."""
        self._marks = tuple(marks)
        self.writing = True
        try:
            places = [self.to_layer(mark.position) for mark in marks]
            self.prompts.selected_data = set()
            self.prompts.data = np.asarray(places, float).reshape(-1, self.prompts.ndim)
            if places:
                self.prompts.symbol = [_SYMBOLS[mark.positive] for mark in marks]
                self.prompts.face_color = [_COLOURS[mark.positive] for mark in marks]
                self.prompts.border_color = ["white"] * len(places)
        finally:
            self.writing = False

    def set_polarity(self, positive: bool) -> None:
        """Show in the layer's controls what the next click will be."""
        self.prompts.selected_data = set()
        self.prompts.current_face_color = _COLOURS[positive]
        self.prompts.current_symbol = _SYMBOLS[positive]

    def clear_shapes(self) -> None:
        """Take away what was drawn: the proposal shows what came of it."""
        self.writing = True
        try:
            self.shapes.data = []
        finally:
            self.writing = False

    def show_proposal(self, proposals: Sequence[Proposal]) -> None:
        """Show an object on its planes; only its box is held in memory.

        Parameters
        ----------
        proposals : sequence of Proposal
            One per plane that has some of it; none to show nothing.
        """
        start, block = _block_of(proposals, self.proposal.ndim, self._placement.inserted)
        self._offset = np.asarray(self.to_layer(start) if proposals else [0.0] * block.ndim)
        self.proposal.data = block
        self._move_proposal()

    def _move_proposal(self) -> None:
        place = self._placement
        self.proposal.translate = place.translate + place.rotate @ place.shear @ (
            place.scale * self._offset
        )


def _block_of(
    proposals: Sequence[Proposal], ndim: int, inserted: int | None
) -> tuple[list[int], NDArray[np.uint8]]:
    """Return the first pixel of the box around an object, and what is in the box."""
    if not proposals:
        return [], np.zeros((1,) * ndim, np.uint8)
    spans = [
        [(p.start, p.stop) if isinstance(p, slice) else (p, p + 1) for p in one.region]
        for one in proposals
    ]
    start = [min(s[axis][0] for s in spans) for axis in range(len(spans[0]))]
    stop = [max(s[axis][1] for s in spans) for axis in range(len(spans[0]))]
    block = np.zeros([b - a for a, b in zip(start, stop, strict=True)], np.uint8)
    for one in proposals:
        inside = tuple(
            slice(p.start - a, p.stop - a) if isinstance(p, slice) else p - a
            for p, a in zip(one.region, start, strict=True)
        )
        block[inside][one.mask] = 1
    return start, block if inserted is None else np.expand_dims(block, inserted)
