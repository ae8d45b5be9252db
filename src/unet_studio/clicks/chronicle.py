"""What was done in a session: the object that it led to, the steps to undo, and the journal."""

from __future__ import annotations

from collections.abc import Mapping
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
    object : ClickedObject
        As it is now.
    history : History
    entries : list of dict
        Lines of the journal, the header first.
    """

    def __init__(self, canvas: Canvas, network: ClickNetwork) -> None:
        self.object = ClickedObject()
        self.history = History()
        self.entries: list[dict[str, Any]] = [header_of(canvas, network)]
        self._network, self._device = network, network.device

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
        self.history.add(Step(what, self.object, after, **more))
        self.object = after
        self._note(entry)

    def back(self) -> Step | None:
        """Take the newest step back; None if there is none."""
        step = self.history.back()
        if step is not None:
            self.object = step.before
            self._note({"do": "undo"})
        return step

    def again(self) -> Step | None:
        """Do the step again that was taken back last; None if there is none."""
        step = self.history.again()
        if step is not None:
            self.object = step.after
            self._note({"do": "redo"})
        return step

    def _note(self, entry: Mapping[str, Any]) -> None:
        masks = [digest(p.answer.mask) for _, p in sorted(self.object.planes.items())]
        if self._network.device != self._device:  # from here on
            self._device = self._network.device
            entry = {**entry, "device": self._device}
        self.entries.append({**entry, "result": digest_of(masks)})
