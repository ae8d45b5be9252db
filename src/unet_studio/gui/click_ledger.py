"""Which labels hold the objects that were clicked, and how undo and redo get at them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.clicks.commit import Edit
from unet_studio.gui.click_target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Labels

    from unet_studio.clicks.objects import Step
    from unet_studio.gui.click_layers import ClickLayers
    from unet_studio.gui.click_source import ClickSource


class Ledger:
    """Keeps the labels that are chosen, and which edit went to which.

    Parameters
    ----------
    source : ClickSource
    layers : ClickLayers
    """

    def __init__(self, source: ClickSource, layers: ClickLayers) -> None:
        self._source, self._layers = source, layers
        self.target: Target | None = None
        self._restored: Target | None = None  # what has no other home is there
        self._written: weakref.WeakKeyDictionary[Edit, Target] = weakref.WeakKeyDictionary()

    @property
    def layer(self) -> Labels | None:
        """The labels that objects go to now, if there are any."""
        return None if self.target is None else self.target.layer

    def choose(self, layer: Labels | None) -> None:
        """Let objects go to other labels from now on; None for new ones."""
        kept = {*self._written.values(), self._restored}
        if self.target is not None and self.target not in kept:
            self.target.release()
        known = {target.layer: target for target in kept if target is not None}
        if layer is None:
            self.target = None
        else:
            inserted = self._source.placement.inserted
            self.target = known.get(layer) or Target(layer, self._source.shape, inserted)

    def note_restored(self) -> None:
        """Note that the labels chosen now hold all that was done in an earlier session."""
        self._restored = self.target

    def write(self, target: Target, edit: Edit) -> None:
        """Write an edit, and remember where.

        Raises
        ------
        ClickError
            If it can not be written.
        """
        target.write(edit)
        self._written[edit] = target

    def follow(self, step: Step, back: bool) -> str:
        """Do in the labels what undo or redo did in the session; return what is to be said."""
        edit = step.edit
        if edit is None:
            return ""
        target = self._home(edit)
        layer = None if target is None else target.layer
        if target is None or layer is None or not self._layers.holds(layer):
            return " The labels that it was in are gone."
        if _is_one_memory(step.target, target.array()):
            layer.refresh()  # of a restored journal: the session wrote to the layer's memory
            return ""
        left = target.write(edit, back=back)
        return f" {left:,} pixels were left alone: they had been changed since." if left else ""

    def count(self, edits: Iterable[Edit]) -> int:
        """Return how many of the objects that edits made are in their labels."""
        edits, found = list(edits), 0
        for target in self._targets():
            if target.layer is not None and self._layers.holds(target.layer):
                found += len(target.present(self.edits_in(target, edits)))
        return found

    def edits_in(self, target: Target, edits: Iterable[Edit]) -> tuple[Edit, ...]:
        """Return those edits that went to a target."""
        return tuple(e for e in edits if self._home(e) is target)

    def release(self) -> None:
        """Stop following all labels."""
        for target in self._targets():
            target.release()

    def _targets(self) -> set[Target]:
        every = {*self._written.values(), self._restored, self.target}
        return {target for target in every if target is not None}

    def _home(self, edit: Edit) -> Target | None:
        """Return where an edit went: what was not written here was restored."""
        return self._written.get(edit, self._restored or self.target)


def _is_one_memory(one: Any, other: Any) -> bool:
    """Whether two label arrays are the same pixels. Stored ones are not read for this."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.may_share_memory(one, other)
    return one is not None and one is other
