"""What mouse, keys, tools and buttons do in a session of clicks."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from unet_studio.gui.click_asker import Asker
from unet_studio.gui.click_commits import Commits
from unet_studio.gui.click_layers import Mark
from unet_studio.gui.click_source import find_result
from unet_studio.gui.click_state import told_of, told_of_taken, told_of_way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.viewer import Viewer

    from unet_studio.clicks.commit import Edit
    from unet_studio.clicks.objects import Proposal
    from unet_studio.clicks.propagation import Propagation
    from unet_studio.gui.click_target import Target

CLICK, CORRECT, PICK, ERASE = "click", "correct", "pick", "erase"
_TOOL_OF = {"Control": CORRECT, "Alt": PICK}


class Actions(QObject):
    """Turns what the user does into questions to the session, and its answers into words.

    Parameters
    ----------
    viewer : napari viewer
    asker : Asker
    commits : Commits
    parent : QObject

    Attributes
    ----------
    positive : bool
        What plain clicks are.
    tool : {"click", "correct", "pick", "erase"}
        What the next click does.
    last_ms : float
        That the last click took; 0 before the first.
    """

    changed = Signal()  # polarity or tool

    def __init__(self, viewer: Viewer, asker: Asker, commits: Commits, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._asker, self._commits = viewer, asker, commits
        self._source, self._layers = asker.source, asker.layers
        self.positive, self.tool, self.last_ms = True, CLICK, 0.0

    # -- at a position ----------------------------------------------------------

    def click(self, position: Sequence[float], positive: bool = True) -> None:
        """Click at a position of the image without C."""
        self._asker.ask("A click", lambda s: s.click(position, positive), self._on_proposal)

    def unclick(self, mark: Mark) -> None:
        """Take a click back."""
        self._asker.ask(
            "Taking a click back", lambda s: s.unclick(mark.position), self._on_proposal
        )

    def correct(self, position: Sequence[float]) -> None:
        """Begin with the object of the labels at a position."""
        if (target := self._commits.target("take an object from")) is not None:
            self._asker.ask(
                "Correcting an object",
                lambda s: s.start_from(target.array(), position),
                partial(self._on_taken, f"the labels {target.name!r}"),
            )

    def pick(self, position: Sequence[float]) -> None:
        """Begin with the object of an ordinary model's result at a position."""
        found = find_result(self._viewer, self._source, position, self._commits.ledger.layer)
        if found is None:
            self._asker.tell(
                "warning",
                "No Segment result of this image has an object there. Run Segment, then click "
                "on one of its objects.",
            )
            return
        layer, model, labels = found
        self._asker.ask(
            "Picking an object",
            lambda s: s.pick(position, labels, name=model),
            partial(self._on_taken, f"the layer {layer.name!r}"),
        )

    def erase(self, position: Sequence[float]) -> None:
        """Erase the object of the labels at a position."""
        if (target := self._commits.target("erase from")) is not None:
            self._asker.ask(
                "Erasing an object",
                lambda s: s.erase(position, target.array(), write=False),
                partial(self._on_erased, target),
            )

    # -- keys, tools and buttons ------------------------------------------------

    def toggle_polarity(self) -> None:
        """Let plain clicks be negative, or positive again."""
        self.positive = not self.positive
        self._layers.set_polarity(self.positive)
        self.changed.emit()

    def next_object(self) -> None:
        """Put what there is into the labels, and go back to positive clicks."""
        if not self.positive:
            self.toggle_polarity()
        self.choose_tool(CLICK)
        state = self._asker.state
        if state is not None and (self._asker.desk.busy or state.planes):
            self.commit()
        else:
            self.reset()

    def commit(self) -> None:
        """Put the object into the labels."""
        self._commits.commit()

    def undo(self) -> None:
        """Take back what was done last."""
        self._commits.undo()

    def redo(self) -> None:
        """Do again what was taken back."""
        self._commits.redo()

    def reset(self) -> None:
        """Drop the object that is being clicked."""
        self._layers.clear_shapes()
        self._asker.ask("A reset", lambda s: s.reset(), self._on_reset)

    def propagate(self, axis: str | None, most: int | None) -> None:
        """Follow the object through slices or frames; at most so many each way."""
        self._asker.propagate(axis, most, self._on_propagated)

    def choose_tool(self, tool: str) -> None:
        """Let the next click do something else, once; the same tool again puts it away."""
        self.tool = CLICK if tool == self.tool else tool
        self.back_to_clicks()

    def choose_correct(self) -> None:
        """Let the next click take an object of the labels."""
        self.choose_tool(CORRECT)

    def choose_pick(self) -> None:
        """Let the next click take an object of the Segment result."""
        self.choose_tool(PICK)

    def choose_erase(self) -> None:
        """Let the next click erase an object of the labels."""
        self.choose_tool(ERASE)

    def draw_box(self) -> None:
        """Let the user draw a box, then go back to clicks."""
        self._draw("add_rectangle", "Draw a box around the object (Esc: back to clicks).")

    def draw_stroke(self) -> None:
        """Let the user draw a stroke, then go back to clicks."""
        word = "on" if self.positive else "beside"
        self._draw("add_path", f"Draw a stroke {word} the object (Esc: back to clicks).")

    def back_to_clicks(self) -> None:
        """Choose the layer to click in."""
        self._layers.choose_prompts()
        self.changed.emit()

    def _draw(self, mode: str, words: str) -> None:
        self._layers.choose_shapes(mode)
        self._asker.tell("info", words)

    # -- the mouse --------------------------------------------------------------

    def click_at(self, world: tuple[float, ...], modifiers: set[str]) -> None:
        """Do what a click at a place in the world means, with these keys held down."""
        position = self._source.position(world)
        if self._viewer.dims.ndisplay != 2:
            self._asker.tell("warning", "Clicks need the flat view: switch 3D off (Ctrl+Y).")
        elif position is None or not all(map(math.isfinite, position)):
            self._asker.tell("warning", "That is no place in the image; nothing was changed.")
        else:
            tool = next((_TOOL_OF[m] for m in _TOOL_OF if m in modifiers), self.tool)
            if tool == CLICK:
                self.click(position, self.positive and "Shift" not in modifiers)
            else:
                {CORRECT: self.correct, PICK: self.pick, ERASE: self.erase}[tool](position)

    def take_point(self, position: tuple[float, ...], positive: bool | None) -> None:
        """Take a point that napari's own tool put into the layer as a click.

        Parameters
        ----------
        position : tuple of float
            In the image without C.
        positive : bool or None
            None: what plain clicks are.
        """
        self.click(position, self.positive if positive is None else positive)

    def take_shape(self, corners: Any, kind: str) -> None:
        """Take a shape that was drawn as a box or a stroke.

        Parameters
        ----------
        corners : array of float, axes (vertices, axes of the image without C)
        kind : str
            napari's name of the shape.
        """
        self._layers.choose_prompts()
        if kind == "rectangle":
            start, stop = np.min(corners, axis=0).tolist(), np.max(corners, axis=0).tolist()
            self._asker.ask("A box", lambda s: s.box(start, stop), self._on_proposal)
        elif kind in ("path", "line"):
            points, positive = corners.tolist(), self.positive
            self._asker.ask("A stroke", lambda s: s.scribble(points, positive), self._on_proposal)
        else:
            self._asker.tell("warning", "Boxes, lines and paths count; other shapes do not.")

    # -- answers ----------------------------------------------------------------

    def _on_proposal(self, proposal: Proposal) -> None:
        self.last_ms = 1000 * proposal.seconds or self.last_ms
        self._asker.tell(*told_of(proposal))

    def _on_taken(self, where: str, proposal: Proposal) -> None:
        self.tool = CLICK
        self._asker.tell(*told_of_taken(proposal, where))

    def _on_erased(self, target: Target, edit: Edit | None) -> None:
        self.tool = CLICK
        if edit is None:
            self._asker.tell("warning", f"There is no object of {target.name!r} there.")
        elif self._commits.write(target, edit):
            self._asker.tell("good", f"Object {edit.id} was erased from {target.name!r}.")

    def _on_reset(self, _none: None) -> None:
        self._asker.tell("info", "Dropped. Click on an object.")

    def _on_propagated(self, found: Propagation) -> None:
        self._asker.tell("good", told_of_way(found))
