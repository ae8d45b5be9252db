"""The objects of a session on their way into labels, and back out of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from unet_studio.errors import UNetStudioError
from unet_studio.gui.click_asker import Asker
from unet_studio.gui.click_ledger import Ledger
from unet_studio.gui.click_state import NO_PIXEL_LEFT
from unet_studio.gui.layers import unwrap
from unet_studio.gui.messages import notify_error

if TYPE_CHECKING:
    import numpy as np
    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from unet_studio.clicks.commit import Edit
    from unet_studio.clicks.objects import Step
    from unet_studio.clicks.session import ClickSession, Committed
    from unet_studio.gui.click_target import Target


class Commits(QObject):
    """Commits objects, takes them back, and knows the labels that get them.

    Parameters
    ----------
    viewer : napari viewer
    asker : Asker
    parent : QObject

    Attributes
    ----------
    counted : int
        Objects that are in their labels.
    ledger : Ledger
        Which labels those are.
    """

    changed = Signal()  # how many objects are in labels
    chosen = Signal()  # other labels get the objects now, not by choice of the user

    def __init__(self, viewer: Viewer, asker: Asker, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._asker = viewer, asker
        self._source, self._layers = asker.source, asker.layers
        self._policy, self.counted = "keep", 0
        self.ledger = Ledger(asker.source, asker.layers)

    # -- what the user asks for -------------------------------------------------

    def set_target(self, layer: Labels | None) -> None:
        """Let objects go to a layer of labels; None makes a new one with the first object."""
        before = self.ledger.layer
        if layer is not before:
            self.ledger.choose(layer)
            if before is not None and not self._layers.holds(before):
                words = f"The labels {before.name!r} were removed. "
                self._asker.tell("warning", words + "The next object goes to new labels.")
            # An id of other labels means nothing in these.
            self._asker.ask("A change of labels", _drop_correction, lambda _: self.count())

    def lose_target(self) -> None:
        """Take note that the labels that got the objects are gone."""
        self.set_target(None)
        self.chosen.emit()

    def set_policy(self, policy: str) -> None:
        """Choose who gets pixels of objects that are there, for commits from now on.

        Parameters
        ----------
        policy : {"keep", "overwrite", "background"}
        """
        self._policy = policy

    def commit(self) -> None:
        """Put the object into the labels."""
        # The labels are made, or looked up, when everything before this has been answered.
        then = partial(self._commit_now, self._policy)
        self._asker.ask("A commit", lambda s: bool(s.proposals), then)

    def undo(self) -> None:
        """Take back what was done last."""
        self._asker.ask("Undo", lambda s: s.undo(), partial(self._on_step, True))

    def redo(self) -> None:
        """Do again what was taken back."""
        self._asker.ask("Redo", lambda s: s.redo(), partial(self._on_step, False))

    def learn(self) -> None:
        """Make a layer of annotations from the objects, for Refine."""
        if (target := self.target("learn from")) is not None:
            edits = self.ledger.edits_in(target, self._edits())
            work = partial(self._source.annotations, target.array(), edits)
            self._asker.submit("Making annotations", work, self._on_annotations)

    def with_journal(self, then: Callable[[str], None]) -> None:
        """Hand the journal, once everything before is answered, to a function."""
        self._asker.ask("The journal", lambda s: s.journal, then)

    # -- the labels -------------------------------------------------------------

    def target(self, verb: str) -> Target | None:
        """Return the labels that get the objects; None, and the user is told, if there are none.

        Parameters
        ----------
        verb : str
            What was to be done with them.
        """
        if self.ledger.layer is None:
            self._asker.tell("warning", f"There are no labels yet to {verb}: choose some.")
            return None
        return self.ledger.target

    def adopt(self, layer: Labels) -> None:
        """Let objects go to a new layer, below what we show."""
        layers = [unwrap(other) for other in self._viewer.layers]
        below = layers.index(self._layers.proposal) if self._layers.proposal in layers else None
        self._viewer.add_layer(layer)
        if below is not None:
            self._viewer.layers.move(len(layers), below)
        self.ledger.choose(layer)
        self._layers.choose_prompts()
        self.chosen.emit()

    def restore(self, labels: NDArray[Any]) -> None:
        """Make a layer of the labels of an earlier session, and go on in it."""
        self.adopt(self._source.make_labels(labels))
        self.ledger.note_restored()

    def _commit_now(self, policy: str, anything: bool) -> None:
        if not anything:
            self._asker.tell("warning", "There is no object yet: click on one first.")
            return
        if self.ledger.layer is None:
            self.adopt(self._source.make_labels())
        target = self.ledger.target
        assert target is not None

        def act(session: ClickSession) -> Committed:
            number = session.replaces or target.next_id()
            return session.commit(target.array(), policy=policy, number=number, write=False)

        self._asker.ask("A commit", act, partial(self._on_committed, target), first=True)

    def write(self, target: Target, edit: Edit) -> bool:
        """Write an edit into labels; if that fails, the session and the user are told."""
        try:
            self.ledger.write(target, edit)
        except UNetStudioError as error:
            self._asker.ask("Undo", lambda s: s.undo(), lambda _: None, first=True)
            self._asker.tell("error", str(error))
            notify_error(str(error))
            return False
        self.count()
        return True

    def count(self) -> None:
        """Count the objects that are in their labels."""
        self.counted = self.ledger.count(self._edits())
        self.changed.emit()

    def _edits(self) -> tuple[Edit, ...]:
        return () if self._asker.state is None else self._asker.state.edits

    # -- answers ----------------------------------------------------------------

    def _on_committed(self, target: Target, made: Committed) -> None:
        if made.edit is None:
            self._asker.tell("warning", NO_PIXEL_LEFT)
        elif self.write(target, made.edit):
            count = f"{self.counted} object{'s' * (self.counted != 1)} so far"
            lines = [f"Object {made.id} is in {target.name!r} ({count}).", made.note]
            severity = "warning" if made.note else "good"
            self._asker.tell(severity, "\n".join(filter(None, lines)))

    def _on_step(self, back: bool, step: Step | None) -> None:
        if step is None:
            self._asker.tell("info", f"There is nothing to {'undo' if back else 'redo'}.")
            return
        note = self.ledger.follow(step, back)
        self.count()
        word = "Taken back" if back else "Done again"
        self._asker.tell("warning" if note else "info", f"{word}: {step.what}.{note}")

    def _on_annotations(self, known: NDArray[np.int32]) -> None:
        layer = self._viewer.add_layer(self._source.annotations_layer(known))
        self._layers.choose_prompts()
        self._asker.tell(
            "good",
            f"Objects with the background around them are in {layer.name!r}: annotations of "
            "whole objects, for Refine.",
        )


def _drop_correction(session: ClickSession) -> None:
    if session.replaces:
        session.reset()
