"""What was done in a session: the object that it led to, the steps to undo, and the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unet_studio.clicks.canvas import Canvas
from unet_studio.clicks.history import History
from unet_studio.clicks.journal import header_of
from unet_studio.clicks.network import ClickNetwork
from unet_studio.clicks.objects import ClickedObject, Step, digest, digest_of


class Chronicle:
    """Keeps the object that is being clicked, and writes down what the user does to it.

    Parameters
    ----------
    canvas : Canvas
    network : ClickNetwork
        Whose device is written down.

    Attributes
    ----------
    history : History
    entries : list of dict
        Lines of the journal, the header first.
    """

    def __init__(self, canvas: Canvas, network: ClickNetwork) -> None:
        self.history = History()
        self.entries: list[dict[str, Any]] = [header_of(canvas, network)]
        self._object = ClickedObject()
        # A step that is being done: in a word, what the object is by now, and its entry.
        self._draft: tuple[str, ClickedObject, Mapping[str, Any]] | None = None
        self._network, self._device = network, network.device

    @property
    def object(self) -> ClickedObject:
        """The object as it is now."""
        return self._object if self._draft is None else self._draft[1]

    def step(self, what: str, after: ClickedObject, entry: Mapping[str, Any], **more: Any) -> None:
        """Do a step that can be undone.

        Parameters
        ----------
        what : str
            In a word, for a menu.
        after : ClickedObject
            What the object becomes.
        entry : mapping
            For the journal; what came out is added.
        **more
            Further fields of :class:`~unet_studio.clicks.objects.Step`.
        """
        self.settle()
        self.history.add(Step(what, self._object, after, **more))
        self._object = after
        self._note(entry)

    def draft(self, what: str, after: ClickedObject, entry: Mapping[str, Any]) -> None:
        """Do a part of a step that takes a while; parameters as of :meth:`step`.

        Each draft takes the place of the one before. :meth:`settle` makes it a step, and so
        does whatever is done next.
        """
        self._draft = what, after, entry

    def settle(self) -> None:
        """Make the draft, if there is one, a step; the plane that was worked on stays."""
        if self._draft is not None:
            (what, after, entry), self._draft = self._draft, None
            self.step(what, replace(after, place=self._object.place), entry)

    def back(self) -> Step | None:
        """Take the newest step back; None if there is none."""
        self.settle()
        step = self.history.back()
        if step is not None:
            self._object = step.before
            self._note({"do": "undo"})
        return step

    def again(self) -> Step | None:
        """Do the step again that was taken back last; None if there is none."""
        self.settle()
        step = self.history.again()
        if step is not None:
            self._object = step.after
            self._note({"do": "redo"})
        return step

    def _note(self, entry: Mapping[str, Any]) -> None:
        masks = [digest(p.answer.mask) for _, p in sorted(self._object.planes.items())]
        if self._network.device != self._device:  # from here on
            self._device = self._network.device
            entry = {**entry, "device": self._device}
        self.entries.append({**entry, "result": digest_of(masks)})
