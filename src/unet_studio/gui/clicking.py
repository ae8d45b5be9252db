"""A session of clicks on one image of the window: what mouse, keys and buttons do."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.errors import UNetStudioError
from unet_studio.gui.click_asker import Asker
from unet_studio.gui.click_layers import ClickLayers, Mark
from unet_studio.gui.click_ledger import Ledger
from unet_studio.gui.click_pointer import Pointer
from unet_studio.gui.click_source import ClickSource, find_result
from unet_studio.gui.click_state import Setup, told_of, told_of_taken, told_of_way
from unet_studio.gui.layers import unwrap
from unet_studio.gui.messages import notify_error, notify_warning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels
    from napari.viewer import Viewer

    from unet_studio.clicks.commit import Edit
    from unet_studio.clicks.objects import Proposal, Step
    from unet_studio.clicks.session import ClickSession, Committed
    from unet_studio.gui.click_target import Target

CLICK, CORRECT, PICK, ERASE = "click", "correct", "pick", "erase"
_TOOL_OF = {"Control": CORRECT, "Alt": PICK}
_KEPT = "Objects that were committed are in their labels."


class Clicking(Asker):
    """Binds mouse and keys, the session, our layers and the user's labels.

    Parameters
    ----------
    viewer : napari viewer
    setup : Setup
    parent : QObject

    Raises
    ------
    UNetStudioError
        If the image can not be read as it is.
    """

    ended = Signal(str)  # why; the session is over
    chosen = Signal()  # other labels get the objects now

    def __init__(self, viewer: Viewer, setup: Setup, parent: QObject) -> None:
        source = ClickSource(setup)
        ndim = len(source.axes)
        layers = ClickLayers(viewer, source.name, source.placement, ndim)
        super().__init__(source, layers, parent)
        self._viewer = viewer
        self.positive, self.tool, self.policy = True, CLICK, "keep"
        self.counted, self.last_ms = 0, 0.0
        self.ledger = Ledger(source, layers)
        self._over = False
        layers.add()
        self.pointer = Pointer(viewer, layers, self)
        self.pointer.clicked.connect(self._on_click)
        self.pointer.unclicked.connect(self.unclick)
        self.pointer.added.connect(self._on_added)
        self.pointer.drawn.connect(self._on_drawn)
        self.hopeless.connect(self.end)
        viewer.layers.events.removed.connect(self._on_removed)
        source.watch(self._on_data, self._on_moved)

    def start(self) -> None:
        """Load the model; clicks made meanwhile are answered as soon as it is there."""
        self.told.emit("info", "Loading the click model …")
        self.submit("Loading the click model", self.source.open, self._on_open)

    def end(self, why: str = "", *, removing: bool = False) -> None:
        """Stop: our layers go, the user's stay; not while napari is ``removing`` layers."""
        if self._over:
            return
        self._over = True
        self.desk.close()
        self.pointer.release()
        self.source.unwatch()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self.ledger.release()
        layers = self.layers

        def remove() -> None:  # PyQt would hold on to a method only as long as others do
            layers.remove()

        if removing:  # perhaps several at once, which napari looks up one after the other
            QTimer.singleShot(0, remove)
        else:
            remove()
        self.ended.emit(why)

    # -- pointing -----------------------------------------------------------------

    def click(self, position: Sequence[float], positive: bool = True) -> None:
        """Click at a position of the image without C."""
        self.ask("A click", lambda s: s.click(position, positive), self._on_proposal)

    def unclick(self, mark: Mark) -> None:
        """Take a click back."""
        self.ask("Taking a click back", lambda s: s.unclick(mark.position), self._on_proposal)

    def correct(self, position: Sequence[float]) -> None:
        """Begin with the object of the labels at a position."""
        if (target := self._target("take an object from")) is not None:
            self.ask(
                "Correcting an object",
                lambda s: s.start_from(target.array(), position),
                partial(self._on_taken, f"the labels {target.name!r}"),
            )

    def pick(self, position: Sequence[float]) -> None:
        """Begin with the object of an ordinary model's result at a position."""
        found = find_result(self._viewer, self.source, position, self.ledger.layer)
        if found is None:
            self.told.emit(
                "warning",
                "No Segment result of this image has an object there. Run Segment, then click "
                "on one of its objects.",
            )
            return
        layer, model, labels = found
        self.ask(
            "Picking an object",
            lambda s: s.pick(position, labels, name=model),
            partial(self._on_taken, f"the layer {layer.name!r}"),
        )

    def erase(self, position: Sequence[float]) -> None:
        """Erase the object of the labels at a position."""
        if (target := self._target("erase from")) is not None:
            self.ask(
                "Erasing an object",
                lambda s: s.erase(position, target.array(), write=False),
                partial(self._on_erased, target),
            )

    def _target(self, verb: str) -> Target | None:
        if self.ledger.layer is None:
            self.told.emit("warning", f"There are no labels yet to {verb}: choose some.")
            return None
        return self.ledger.target

    # -- keys ---------------------------------------------------------------------

    def toggle_polarity(self) -> None:
        """Let plain clicks be negative, or positive again."""
        self.positive = not self.positive
        self.layers.set_polarity(self.positive)
        self.changed.emit()

    def commit(self) -> None:
        """Put the object into the labels."""
        # The labels are made, or looked up, when everything before this has been answered.
        then = partial(self._commit_now, self.policy)
        self.ask("A commit", lambda s: bool(s.proposals), then)

    def next_object(self) -> None:
        """Put what there is into the labels, and go back to positive clicks."""
        if not self.positive:
            self.toggle_polarity()
        self.choose_tool(CLICK)
        if self.state is not None and (self.desk.busy or self.state.planes):
            self.commit()
        else:
            self.reset()

    def reset(self) -> None:
        """Drop the object that is being clicked."""
        self.layers.clear_shapes()
        self.ask("A reset", lambda s: s.reset(), self._on_reset)

    def undo(self) -> None:
        """Take back what was done last."""
        self.ask("Undo", lambda s: s.undo(), partial(self._on_step, True))

    def redo(self) -> None:
        """Do again what was taken back."""
        self.ask("Redo", lambda s: s.redo(), partial(self._on_step, False))

    def choose_tool(self, tool: str) -> None:
        """Let the next click do something else, once; the same tool again puts it away."""
        self.tool = CLICK if tool == self.tool else tool
        self.layers.choose_prompts()
        self.changed.emit()

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
        self.changed.emit()

    def _draw(self, mode: str, words: str) -> None:
        self.layers.choose_shapes(mode)
        self.told.emit("info", words)

    # -- the tab's buttons --------------------------------------------------------

    def set_target(self, layer: Labels | None) -> None:
        """Let objects go to a layer of labels; None makes a new one with the first object."""
        before = self.ledger.layer
        if layer is not before:
            self.ledger.choose(layer)
            if before is not None and not self.layers.holds(before):
                words = f"The labels {before.name!r} were removed. "
                self.told.emit("warning", words + "The next object goes to new labels.")
            # An id of other labels means nothing in these.
            self.ask("A change of labels", _drop_correction, lambda _: self._count())

    def propagate(self, axis: str | None, most: int | None) -> None:
        """Follow the object through slices or frames; at most so many each way."""
        self.propagating = True
        self.submit(
            "Following the object",
            partial(self.source.propagate, axis, most),
            self._on_propagated,
            on_the_way=self.progressed.emit,
        )
        self.changed.emit()

    def learn(self) -> None:
        """Make a layer of annotations from the objects, for Refine."""
        if (target := self._target("learn from")) is not None:
            edits = self.ledger.edits_in(target, self.state.edits if self.state else ())
            work = partial(self.source.annotations, target.array(), edits)
            self.submit("Making annotations", work, self._on_annotations)

    def with_journal(self, then: Callable[[str], None]) -> None:
        """Hand the journal, once everything before is answered, to a function."""
        self.ask("The journal", lambda s: s.journal, then)

    # -- answers ------------------------------------------------------------------

    def _on_open(self, labels: Any) -> None:
        if labels is not None:  # of a journal that was restored
            self._adopt(self.source.make_labels(labels))
        self._count()
        self.told.emit("info", f"Click on an object in {self.source.name!r}.")

    def _on_proposal(self, proposal: Proposal) -> None:
        self.last_ms = 1000 * proposal.seconds or self.last_ms
        self.told.emit(*told_of(proposal))

    def _on_taken(self, where: str, proposal: Proposal) -> None:
        self.tool = CLICK
        self.told.emit(*told_of_taken(proposal, where))

    def _on_erased(self, target: Target, edit: Edit | None) -> None:
        self.tool = CLICK
        if edit is None:
            self.told.emit("warning", f"There is no object of {target.name!r} there.")
        elif self._write(target, edit):
            self.told.emit("good", f"Object {edit.id} was erased from {target.name!r}.")

    def _commit_now(self, policy: str, anything: bool) -> None:
        if not anything:
            self.told.emit("warning", "There is no object yet: click on one first.")
            return
        if self.ledger.layer is None:
            self._adopt(self.source.make_labels())
        target = self.ledger.target
        assert target is not None

        def act(session: ClickSession) -> Committed:
            number = session.replaces or target.next_id()
            return session.commit(target.array(), policy=policy, number=number, write=False)

        self.ask("A commit", act, partial(self._on_committed, target), first=True)

    def _on_committed(self, target: Target, made: Committed) -> None:
        if made.edit is None:
            self.told.emit("warning", made.note)
        elif self._write(target, made.edit):
            count = f"{self.counted} object{'s' * (self.counted != 1)} so far"
            lines = [f"Object {made.id} is in {target.name!r} ({count}).", made.note]
            severity = "warning" if made.note else "good"
            self.told.emit(severity, "\n".join(filter(None, lines)))

    def _write(self, target: Target, edit: Edit) -> bool:
        try:
            self.ledger.write(target, edit)
        except UNetStudioError as error:
            self.ask("Undo", lambda s: s.undo(), lambda _: None, first=True)
            self.told.emit("error", str(error))
            notify_error(str(error))
            return False
        self._count()
        return True

    def _on_reset(self, _none: None) -> None:
        self.told.emit("info", "Dropped. Click on an object.")

    def _on_step(self, back: bool, step: Step | None) -> None:
        if step is None:
            self.told.emit("info", f"There is nothing to {'undo' if back else 'redo'}.")
            return
        note = self.ledger.follow(step, back)
        self._count()
        word = "Taken back" if back else "Done again"
        self.told.emit("warning" if note else "info", f"{word}: {step.what}.{note}")

    def _on_propagated(self, found: Any) -> None:
        self.propagating = False
        self.told.emit("good", told_of_way(found))

    def _on_annotations(self, labels: Any) -> None:
        layer = self._viewer.add_layer(self.source.annotations_layer(labels))
        self.layers.choose_prompts()
        self.told.emit(
            "good",
            f"Objects with the background around them are in {layer.name!r}: annotations of "
            "whole objects, for Refine.",
        )

    # -- mouse and layers of the window -------------------------------------------

    def _on_click(self, world: tuple[float, ...], modifiers: set[str]) -> None:
        position = self.source.position(world)
        if self._viewer.dims.ndisplay != 2:
            self.told.emit("warning", "Clicks need the flat view: switch 3D off (Ctrl+Y).")
        elif position is None or not all(map(math.isfinite, position)):
            self.told.emit("warning", "That is no place in the image; nothing was changed.")
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
            self.ask("A box", lambda s: s.box(start, stop), self._on_proposal)
        elif kind in ("path", "line"):
            points, positive = corners.tolist(), self.positive
            self.ask("A stroke", lambda s: s.scribble(points, positive), self._on_proposal)
        else:
            self.told.emit("warning", "Boxes, lines and paths count; other shapes do not.")

    def _adopt(self, layer: Labels) -> None:
        """Let objects go to a new layer, below what we show."""
        layers = [unwrap(other) for other in self._viewer.layers]
        below = layers.index(self.layers.proposal) if self.layers.proposal in layers else None
        self._viewer.add_layer(layer)
        if below is not None:
            self._viewer.layers.move(len(layers), below)
        self.ledger.choose(layer)
        self.layers.choose_prompts()
        self.chosen.emit()

    def _count(self) -> None:
        self.counted = self.ledger.count(() if self.state is None else self.state.edits)
        self.changed.emit()

    def _on_removed(self, event: Any) -> None:
        gone = unwrap(event.value)
        if gone is self.source.layer:
            self._give_up(
                f"The image {gone.name!r} was removed: clicking has stopped. {_KEPT}",
                removing=True,
            )
        elif any(gone is layer for layer in self.layers.all):
            self._give_up(
                f"The layer {gone.name!r} was removed: clicking has stopped. {_KEPT}",
                removing=True,
            )
        elif gone is self.ledger.layer:
            self.set_target(None)
            self.chosen.emit()

    def _on_data(self, _event: Any = None) -> None:
        if why := self.source.unlike():
            self._give_up(why)
            return
        self.submit("Taking in the new image", self.source.take_in, lambda _: None)
        words = f"The pixels of {self.source.name!r} were replaced: clicks see the new ones."
        self.told.emit("warning", words)

    def _give_up(self, why: str, *, removing: bool = False) -> None:
        self.end(why, removing=removing)
        notify_warning(why)

    def _on_moved(self, _event: Any = None) -> None:
        self.layers.move(self.source.place_anew())


def _drop_correction(session: ClickSession) -> None:
    if session.replaces:
        session.reset()
