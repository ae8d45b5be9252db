"""Click an object to have it: a session with one image, one click model and one label image."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unet_studio.clicks.canvas import open_canvas
from unet_studio.clicks.commit import Edit, apply, commit_edit, grown, holds
from unet_studio.clicks.labelling import Labelling
from unet_studio.clicks.network import ClickNetwork
from unet_studio.clicks.objects import ClickedObject, OnPlane, Place, Proposal
from unet_studio.clicks.prompts import Prompts
from unet_studio.clicks.propagation import FROM_PROPAGATION, Propagation, both_ways
from unet_studio.clicks.solving import Answer, solve
from unet_studio.errors import ClickError
from unet_studio.events import CancelToken

if TYPE_CHECKING:
    from pathlib import Path

    from unet_studio.models.model import Model
    from unet_studio.training.annotations import Annotations


@dataclass(frozen=True, eq=False)
class Committed:
    """An object that became part of labels.

    Attributes
    ----------
    labels : array of int
        With the object in it: the array that was passed, changed in place, or a new one
        if the type of its values had to grow.
    id : int
        Of the object; 0 if nothing was written.
    edit : Edit or None
        What was written, for whoever keeps a history of the labels.
    grown : bool
        Whether ``labels`` is a new array of a larger type.
    note : str
    """

    labels: Any
    id: int
    edit: Edit | None = None
    grown: bool = False
    note: str = ""


class ClickSession(Labelling):
    """Click objects of an image, correct them, and put them into labels.

    Only the surroundings of a click are read, anew for each click, so the image may be
    larger than memory and may change in between. Positions have one number per axis of
    the image without C, in its order, in pixels; whole numbers are centres of pixels.

    Parameters
    ----------
    image : array, Volume, path, or sequence of arrays
        numpy, dask or zarr; of a sequence each is a coarser resolution level.
    model : str, Path, Model or ClickNetwork
        A model that answers clicks. A network that is loaded keeps its device.
    axes : str, optional
        One letter out of TCZYX per dimension, where the image does not say.
    levels : sequence of array or Volume
        Coarser resolution levels of the image, for large objects.
    channels : sequence of int, optional
        Up to three to look at; by default the first three.
    rgb : bool, optional
        Whether the channels are red, green and blue.
    labels : array of int, optional
        Where objects go by default, changed in place: numpy or zarr, shape of the image
        without C. Made by the first commit if not given.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises
    ------
    UNetStudioError
        One of its subclasses, with a message that says what to do.

    Examples
    --------
    >>> session = ClickSession(image)                      # doctest: +SKIP
    >>> session.click((60, 80)).area                       # doctest: +SKIP
    >>> session.click((60, 95), positive=False)            # doctest: +SKIP
    >>> session.commit().id                                # doctest: +SKIP
    """

    def __init__(
        self,
        image: Any,
        model: str | Path | Model | ClickNetwork = "clicks",
        *,
        axes: str | None = None,
        levels: Sequence[Any] = (),
        channels: Sequence[int] | None = None,
        rgb: bool | None = None,
        labels: Any = None,
        device: str = "auto",
    ) -> None:
        canvas = open_canvas(image, axes, levels=levels, channels=channels, rgb=rgb)
        network = model if isinstance(model, ClickNetwork) else ClickNetwork(model, device)
        super().__init__(canvas, network, labels)

    def renew_image(self, image: Any, *, levels: Sequence[Any] = ()) -> None:
        """Go on with other pixels of the image; what was found in the old ones stays.

        Parameters
        ----------
        image : array, Volume, path, or sequence of arrays
            Of the axes, the shape and the channels that the image has.
        levels : sequence of array or Volume
            Coarser resolution levels.

        Raises
        ------
        ClickError
            If it is of another shape.
        """
        old = self.canvas.volume
        chosen = self.canvas.channels
        canvas = open_canvas(image, old.axes.names, levels=levels, channels=chosen, rgb=old.rgb)
        if canvas.volume.info.shape != old.info.shape:
            raise ClickError(
                f"The new pixels have the shape {canvas.volume.info.shape}, those of "
                f"{old.name!r} {old.info.shape}. Begin another session with them."
            )
        self.canvas = canvas

    # -- taking back --------------------------------------------------------------

    def unclick(self, position: Sequence[float]) -> Proposal:
        """Take back the click nearest to a position, whatever came after it.

        The plane is answered anew from the prompts that are left. Scribbles stay.

        Parameters
        ----------
        position : sequence of float
        """
        began = time.perf_counter()
        located = self.canvas.locate(position)
        place, point = located or ((), (0.0, 0.0))
        before = self._chronicle.object.on(place)
        clicks = [mark for mark in before.prompts.marks if mark.kind == "click"]
        if located is None or not clicks:
            return self._nothing("There is no click to take back there.")
        nearest = min(clicks, key=lambda mark: math.dist(mark.points[0], point))
        kept = tuple(mark for mark in before.prompts.marks if mark is not nearest)
        prompts = replace(before.prompts, marks=kept)
        start = Answer() if prompts.start is None else Answer(prompts.start)
        answer = start
        if kept or prompts.box is not None:
            answer = solve(self.eye(place), prompts, start, self._chronicle.history.usual_size())
        after = self._chronicle.object.with_plane(place, OnPlane(prompts, answer, before.origin))
        entry = {"do": "unclick", "position": [float(p) for p in position]}
        self._chronicle.step("unclick", after, entry)
        return self._shown(place, seconds=time.perf_counter() - began)

    # -- labels -------------------------------------------------------------------

    def commit(
        self,
        labels: Any = None,
        *,
        policy: str = "keep",
        number: int | None = None,
        write: bool = True,
    ) -> Committed:
        """Put the object into labels; the next click begins another one.

        Parameters
        ----------
        labels : numpy or zarr array of int, optional
            Shape of the image without C. By default, and from then on, :attr:`labels`.
        policy : {"keep", "overwrite", "background"}
            Who gets pixels of objects that are there: they keep them, the new object
            takes them, or nothing that is there changes (not even the object that this
            one corrects, which only grows).
        number : int, optional
            The object's id; by default that of the object it corrects, or the next free one.
        write : bool
            False: the owner of the labels writes and reverts ``edit`` itself.

        Raises
        ------
        ClickError
            If the labels do not fit the image, or there is no such policy.
        """
        labels, clicked = self._target(labels), self._chronicle.object
        if clicked.empty:
            return Committed(labels, 0, note="There is no object yet: click on one first.")
        number = number or clicked.replaces or self._next_id(labels)
        if number < 1:
            raise ClickError(
                f"{number} can not be the id of an object; ids begin with 1. Pass another number, "
                "or none for the next free one."
            )
        planes = [
            (self.canvas.named(place), plane.answer.mask, self._given_up(labels, place))
            for place, plane in sorted(clicked.planes.items())
        ]
        edit = commit_edit(labels, self.canvas.axes, planes, number, policy, clicked.replaces)
        if not edit.changes:
            note = (
                "Nothing was changed: other objects have all of its pixels, and keep them under "
                f"the policy {policy!r}. The policy 'overwrite' gives them to this one."
            )
            return Committed(labels, 0, note=note)
        larger = not holds(labels.dtype, number)
        note = ""
        if larger:
            note = f"{labels.dtype} ends before {number}: the labels are now of a larger type."
        if write:
            before, labels = labels, grown(labels, number)
            self.labels = labels
            if labels is not before:
                self._chronicle.history.moved(before, labels)
                if self._numbered is before:
                    self._numbered = labels
            apply(labels, edit)
        # An id that was given says nothing of labels that were not searched yet.
        if self._numbered is labels and self._highest >= 0:
            self._highest = max(self._highest, number)
        entry = {"do": "commit", "policy": policy, "id": number}
        target = labels if write else None
        self._chronicle.step("commit", ClickedObject(), entry, edit=edit, target=target)
        return Committed(labels, number, edit, larger, note)

    # -- planes -------------------------------------------------------------------

    def propagate(
        self,
        axis: str | None = None,
        *,
        before: int | None = None,
        after: int | None = None,
        token: CancelToken | None = None,
    ) -> Generator[Proposal, None, Propagation]:
        """Follow the object to neighbouring slices or frames, until it ends.

        It ends where the network no longer sees it, where what it sees is implausible as
        the same object, where a plane has prompts of its own, or at the end of the image.
        All planes are one step for :meth:`undo`; closing the generator keeps those done.

        Parameters
        ----------
        axis : {"Z", "T"}, optional
            By default Z, or T of images without depth.
        before, after : int, optional
            At most so many planes towards lower and higher numbers; 0 for none.
        token : CancelToken, optional
            Looked at between planes.

        Yields
        ------
        Proposal
            The object on one more plane.

        Returns
        -------
        Propagation
            How far it went, and why not farther.

        Raises
        ------
        ClickError
            If there is no object, or no such axis.
        """
        start, axis = self._chronicle.object, axis or self._next_axis()
        place = start.place
        if axis not in self.canvas.plane_axes:
            raise ClickError(
                f"The image {self.canvas.volume.name!r} has no axis {axis} to follow an object "
                f"along. Choose one of: {', '.join(self.canvas.plane_axes) or 'it has none'}."
            )
        if place is None or not start.on(place).answer.mask.values.any():
            raise ClickError("There is no object to follow yet: click on one first.")
        slot = self.canvas.plane_axes.index(axis)

        def at(plane: int) -> Place:
            return (*place[:slot], plane, *place[slot + 1 :])

        steps = both_ways(
            lambda plane: self.eye(at(plane)),
            start.on(place).answer,
            place[slot],
            self.canvas.volume.info.length(axis),
            (before, after),
            lambda plane: bool(start.on(at(plane)).prompts.marks),
            token or CancelToken(),
        )
        first = last = place[slot]
        ends = "", ""
        try:
            while True:
                plane, answer = next(steps)
                first, last = min(first, plane), max(last, plane)
                found = OnPlane(Prompts(start=answer.mask), answer, FROM_PROPAGATION)
                by_now = self._chronicle.object.with_plane(at(plane), found)
                entry = {"do": "propagate", "axis": axis}
                reach = {"before": place[slot] - first, "after": last - place[slot]}
                self._chronicle.draft("propagate", by_now, {**entry, **reach})
                yield self._shown(at(plane))
        except StopIteration as stop:
            ends = stop.value
        finally:
            self._chronicle.settle()
        return Propagation(axis, first, last, *ends)

    def _next_axis(self) -> str:
        return "Z" if "Z" in self.canvas.plane_axes else "T"

    # -- learning -----------------------------------------------------------------

    def export_annotations(self, ring: int = 2) -> Annotations:
        """Return the committed objects as annotations to refine a model with.

        See :func:`~unet_studio.clicks.exporting.annotations_of`.
        """
        from unet_studio.clicks.exporting import annotations_of

        if self.labels is None:
            raise ClickError(
                f"No object of {self.canvas.volume.name!r} was committed yet; there is nothing to "
                "learn from. Commit one first."
            )
        return annotations_of(self.labels, self.canvas.axes, self.edits, ring)
