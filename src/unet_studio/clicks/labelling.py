"""The labels that objects go to: erasing from them, free ids, and what a correction gives up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_studio.clicks.canvas import Canvas
from unet_studio.clicks.commit import Edit, apply, erase_edit, next_id, oriented, region_of
from unet_studio.clicks.network import ClickNetwork
from unet_studio.clicks.objects import Place
from unet_studio.clicks.picking import object_at
from unet_studio.clicks.pointing import Pointing
from unet_studio.clicks.prompts import Patch


class Labelling(Pointing):
    """Points at objects, and knows the labels that they go to.

    Parameters
    ----------
    canvas : Canvas
    network : ClickNetwork
    labels : array of int, optional
        Shape of the image without channels.
    """

    def __init__(self, canvas: Canvas, network: ClickNetwork, labels: Any = None) -> None:
        super().__init__(canvas, network)
        if labels is not None:
            self.check_labels(labels)
        self.labels: Any = labels
        # Labels are not searched again for each object.
        self._numbered, self._highest = labels, -1

    def erase(
        self, position: Sequence[float], labels: Any = None, *, write: bool = True
    ) -> Edit | None:
        """Erase the object of the labels at a position: the piece that is connected there.

        It is followed along all axes. What is being clicked stays.

        Parameters
        ----------
        position : sequence of float
        labels : numpy or zarr array of int, optional
        write : bool
            False: the owner of the labels writes and reverts the edit itself.

        Returns
        -------
        Edit or None
            None if there is no object.
        """
        pixel = self.canvas.pixel(position)
        labels = self._target(labels)
        edit = None if pixel is None else erase_edit(labels, pixel)
        if edit is not None:
            self._erase(position, edit, labels if write else None)
        return edit

    def erase_again(self, position: Sequence[float], number: int | None) -> None:
        """Erase what was erased in another session; if it is not there, note it all the same.

        Undo then takes back what it took back in that session.

        Parameters
        ----------
        position : sequence of float
        number : int or None
            Id that the object had; None if it is not known.
        """
        pixel = self.canvas.pixel(position)
        labels = self._target(None)
        edit = None if pixel is None else erase_edit(labels, pixel)
        if edit is None or edit.id != (number or edit.id):
            edit = Edit("erase", number or 0, ())
        self._erase(position, edit, labels)

    def _erase(self, position: Sequence[float], edit: Edit, target: Any) -> None:
        if target is not None:
            apply(target, edit)
        entry = {"do": "erase", "position": [float(p) for p in position], "id": edit.id}
        self._chronicle.step("erase", self._chronicle.object, entry, edit=edit, target=target)

    def _target(self, labels: Any) -> Any:
        if labels is None:
            if self.labels is None:
                self.labels = np.zeros(self.canvas.shape, np.uint16)
            return self.labels
        if labels is not self.labels:
            self.check_labels(labels)
        return labels

    def _given_up(self, labels: Any, place: Place) -> Patch | None:
        """Return the old pixels of the object that is corrected, on one plane."""
        clicked = self._chronicle.object
        plane, number = clicked.on(place), clicked.replaces
        mask = plane.answer.mask
        if plane.replaced is not None or not number:
            return plane.replaced
        # Frames are not followed when a correction begins: what is under it there is looked up.
        axes = self.canvas.axes
        region = region_of(axes, self.canvas.named(place), mask.box)
        under = oriented(np.asarray(labels[region]) == number, axes) & mask.values.astype(bool)
        if not under.any():
            return None
        y, x = (int(n) for n in np.argwhere(under)[0])
        point = (float(mask.top + y), float(mask.left + x))
        taken = object_at(labels, self.canvas, place, point)
        return None if taken is None else taken.planes.get(place)

    def _next_id(self, labels: Any) -> int:
        """Return the next free id; stored labels are only searched when new to the session."""
        if self._numbered is labels and type(labels) is np.ndarray:
            # Others may have changed them since, and memory is searched quickly.
            self._highest = next_id(labels, max(self._highest, 0)) - 1
        elif self._highest < 0 or self._numbered is not labels:
            self._numbered, self._highest = labels, next_id(labels) - 1
        return self._highest + 1
