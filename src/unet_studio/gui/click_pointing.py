"""What mouse, keys and tools point at: the object that is being clicked."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from unet_studio.gui.click_asker import Asker
from unet_studio.gui.click_commits import Commits
from unet_studio.gui.click_layers import ClickLayers, Mark
from unet_studio.gui.click_source import ClickSource, find_result
from unet_studio.gui.click_state import State, told_of, told_of_taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.viewer import Viewer

    from unet_studio.clicks.commit import Edit
    from unet_studio.clicks.objects import Proposal
    from unet_studio.gui.click_desk import Desk
    from unet_studio.gui.click_ledger import Ledger
    from unet_studio.gui.click_target import Target

CLICK, CORRECT, PICK, ERASE = "click", "correct", "pick", "erase"
_TOOL_OF = {"Control": CORRECT, "Alt": PICK}


class Pointing(QObject):
    """Turns what is pointed at into questions to the session, and its answers into words.

    Parameters
    ----------
    viewer : napari viewer
    source : ClickSource
    layers : ClickLayers
    parent : QObject
    """

    def __init__(
        self, viewer: Viewer, source: ClickSource, layers: ClickLayers, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self.source, self.layers = viewer, source, layers
        self.asker = Asker(source, layers, self)
        self.commits = Commits(viewer, self.asker, self)
        self.positive, self.tool, self.last_ms = True, CLICK, 0.0

    @property
    def desk(self) -> Desk:
        """What answers the questions."""
        return self.asker.desk

    @property
    def state(self) -> State | None:
        """The session as the last answer left it; None before the first."""
        return self.asker.state

    @property
    def ledger(self) -> Ledger:
        """Which labels hold the objects."""
        return self.commits.ledger

    @property
    def counted(self) -> int:
        """Objects that are in their labels."""
        return self.commits.counted

    # -- at a position ----------------------------------------------------------

    def click(self, position: Sequence[float], positive: bool = True) -> None:
        """Click at a position of the image without C."""
        self.asker.ask("A click", lambda s: s.click(position, positive), self._on_proposal)

    def unclick(self, mark: Mark) -> None:
        """Take a click back."""
        self.asker.ask(
            "Taking a click back", lambda s: s.unclick(mark.position), self._on_proposal
        )

    def correct(self, position: Sequence[float]) -> None:
        """Begin with the object of the labels at a position."""
        if (target := self.commits.target("take an object from")) is not None:
            self.asker.ask(
                "Correcting an object",
                lambda s: s.start_from(target.array(), position),
                partial(self._on_taken, f"the labels {target.name!r}"),
            )

    def pick(self, position: Sequence[float]) -> None:
        """Begin with the object of an ordinary model's result at a position."""
        found = find_result(self._viewer, self.source, position, self.ledger.layer)
        if found is None:
            self.asker.tell(
                "warning",
                "No Segment result of this image has an object there. Run Segment, then click "
                "on one of its objects.",
            )
            return
        layer, model, labels = found
        self.asker.ask(
            "Picking an object",
            lambda s: s.pick(position, labels, name=model),
            partial(self._on_taken, f"the layer {layer.name!r}"),
        )

    def erase(self, position: Sequence[float]) -> None:
        """Erase the object of the labels at a position."""
        if (target := self.commits.target("erase from")) is not None:
            self.asker.ask(
                "Erasing an object",
                lambda s: s.erase(position, target.array(), write=False),
                partial(self._on_erased, target),
            )

    # -- keys and tools ---------------------------------------------------------

    def toggle_polarity(self) -> None:
        """Let plain clicks be negative, or positive again."""
        self.positive = not self.positive
        self.layers.set_polarity(self.positive)
        self.asker.changed.emit()

    def next_object(self) -> None:
        """Put what there is into the labels, and go back to positive clicks."""
        if not self.positive:
            self.toggle_polarity()
        self.choose_tool(CLICK)
        if self.state is not None and (self.desk.busy or self.state.planes):
            self.commit()
        else:
            self.reset()

    def commit(self) -> None:
        """Put the object into the labels."""
        self.commits.commit()

    def undo(self) -> None:
        """Take back what was done last."""
        self.commits.undo()

    def redo(self) -> None:
        """Do again what was taken back."""
        self.commits.redo()

    def reset(self) -> None:
        """Drop the object that is being clicked."""
        self.layers.clear_shapes()
        self.asker.ask("A reset", lambda s: s.reset(), self._on_reset)

    def choose_tool(self, tool: str) -> None:
        """Let the next click do something else, once; the same tool again puts it away."""
        self.tool = CLICK if tool == self.tool else tool
        self.layers.choose_prompts()
        self.asker.changed.emit()

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
        self.layers.choose_prompts()
        self.asker.changed.emit()

    def _draw(self, mode: str, words: str) -> None:
        self.layers.choose_shapes(mode)
        self.asker.tell("info", words)

    # -- answers ----------------------------------------------------------------

    def _on_proposal(self, proposal: Proposal) -> None:
        self.last_ms = 1000 * proposal.seconds or self.last_ms
        self.asker.tell(*told_of(proposal))

    def _on_taken(self, where: str, proposal: Proposal) -> None:
        self.tool = CLICK
        self.asker.tell(*told_of_taken(proposal, where))

    def _on_erased(self, target: Target, edit: Edit | None) -> None:
        self.tool = CLICK
        if edit is None:
            self.asker.tell("warning", f"There is no object of {target.name!r} there.")
        elif self.commits.write(target, edit):
            self.asker.tell("good", f"Object {edit.id} was erased from {target.name!r}.")

    def _on_reset(self, _none: None) -> None:
        self.asker.tell("info", "Dropped. Click on an object.")

    # -- the mouse --------------------------------------------------------------

    def _on_click(self, world: tuple[float, ...], modifiers: set[str]) -> None:
        position = self.source.position(world)
        if self._viewer.dims.ndisplay != 2:
            self.asker.tell("warning", "Clicks need the flat view: switch 3D off (Ctrl+Y).")
        elif position is None or not all(map(math.isfinite, position)):
            self.asker.tell("warning", "That is no place in the image; nothing was changed.")
        else:
            tool = next((_TOOL_OF[m] for m in _TOOL_OF if m in modifiers), self.tool)
            if tool == CLICK:
                self.click(position, self.positive and "Shift" not in modifiers)
            else:
                {CORRECT: self.correct, PICK: self.pick, ERASE: self.erase}[tool](position)

    def _on_added(self, position: tuple[float, ...], positive: bool | None) -> None:
        self.click(position, self.positive if positive is None else positive)

    def _on_drawn(self, corners: Any, kind: str) -> None:
        self.layers.choose_prompts()
        if kind == "rectangle":
            start, stop = np.min(corners, axis=0).tolist(), np.max(corners, axis=0).tolist()
            self.asker.ask("A box", lambda s: s.box(start, stop), self._on_proposal)
        elif kind in ("path", "line"):
            points, positive = corners.tolist(), self.positive
            self.asker.ask("A stroke", lambda s: s.scribble(points, positive), self._on_proposal)
        else:
            self.asker.tell("warning", "Boxes, lines and paths count; other shapes do not.")
