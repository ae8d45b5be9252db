"""One object at a time: prompts, the answers to them, undo and redo, and the journal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from unet_studio.clicks import journal, picking
from unet_studio.clicks.canvas import Canvas
from unet_studio.clicks.chronicle import Chronicle
from unet_studio.clicks.commit import Edit, oriented
from unet_studio.clicks.network import ClickNetwork
from unet_studio.clicks.objects import (
    FROM_CLICKS,
    ClickedObject,
    OnPlane,
    Place,
    Proposal,
    Step,
    proposal_of,
)
from unet_studio.clicks.prompts import Patch, Point, Prompt, Prompts, box_of, pixel_of
from unet_studio.clicks.solving import Answer, Eye, reach_of, solve
from unet_studio.errors import ClickError


class Pointing:
    """What a session does with the object that is being clicked.

    Positions have one number per axis of the image without C, in its order, in pixels;
    whole numbers are centres of pixels.

    Parameters
    ----------
    canvas : Canvas
    network : ClickNetwork
    """

    def __init__(self, canvas: Canvas, network: ClickNetwork) -> None:
        self.canvas = canvas
        self.network = network
        self._chronicle = Chronicle(canvas, network)

    # -- what there is ------------------------------------------------------------

    @property
    def proposal(self) -> Proposal:
        """The object on the plane that was worked on last; empty before the first click."""
        return self._shown(self._chronicle.object.place)

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        """The object on every plane it has been found on."""
        found = (self._shown(place) for place in sorted(self._chronicle.object.planes))
        return tuple(p for p in found if p.area)

    @property
    def pointed(self) -> tuple[Proposal, ...]:
        """The object on every plane that was pointed at, also where nothing of it is."""
        return tuple(self._shown(place) for place in sorted(self._chronicle.object.planes))

    @property
    def replaces(self) -> int:
        """Id of the object of the labels that is being corrected; 0 for a new one."""
        return self._chronicle.object.replaces

    @property
    def started(self) -> bool:
        """Whether there is an object that is neither committed nor reset."""
        return self._chronicle.object.started

    @property
    def can_undo(self) -> str:
        """What :meth:`undo` would take back, in a word; empty if nothing."""
        done = self._chronicle.history.done
        return done[-1].what if done else ""

    @property
    def can_redo(self) -> str:
        """What :meth:`redo` would do again, in a word; empty if nothing."""
        undone = self._chronicle.history.undone
        return undone[-1].what if undone else ""

    @property
    def edits(self) -> list[Edit]:
        """What was done to labels and not undone, oldest first."""
        return self._chronicle.history.edits()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The lines of :attr:`journal`, as values."""
        return self._chronicle.entries

    @property
    def journal(self) -> str:
        """All that was done, one JSON object per line, for :func:`replay`."""
        return journal.lines_of(self.entries)

    @property
    def notices(self) -> tuple[str, ...]:
        """Why the network runs on another device than was asked for, if it does."""
        return tuple(self.network.notices)

    # -- pointing -----------------------------------------------------------------

    def click(self, position: Sequence[float], positive: bool = True) -> Proposal:
        """Click on the object, or, with ``positive=False``, on what is not part of it.

        A click outside the image, or one that is no number, changes nothing and says so.

        Parameters
        ----------
        position : sequence of float
        positive : bool

        Raises
        ------
        AxesError
            If the position has not one number per axis.
        ImageError
            If the surroundings can not be read.
        """
        began = time.perf_counter()
        found = self.canvas.locate(position)
        if found is None:
            return self._nothing(f"{_words(position)} is outside the image; nothing was changed.")
        entry = {"do": "click", "position": _plain(position), "positive": positive}
        return self._mark(found[0], Prompt((found[1],), positive), entry, began)

    def scribble(self, points: Sequence[Sequence[float]], positive: bool = True) -> Proposal:
        """Draw a stroke on the object, or beside it. Every pixel of it counts as clicked.

        Parameters
        ----------
        points : sequence of positions
            Of a polyline on one plane; those outside the image are left out.
        positive : bool

        Raises
        ------
        AxesError, ImageError
        ClickError
            If the points are not on one plane.
        """
        began = time.perf_counter()
        found = [f for f in map(self.canvas.locate, points) if f is not None]
        if not found:
            return self._nothing("The stroke is outside the image; nothing was changed.")
        if len({place for place, _ in found}) > 1:
            raise ClickError("A stroke lies on one plane; draw one on each slice or frame.")
        entry = {"do": "scribble", "points": [_plain(p) for p in points], "positive": positive}
        stroke = Prompt(tuple(point for _, point in found), positive, "scribble")
        return self._mark(found[0][0], stroke, entry, began)

    def box(self, start: Sequence[float], stop: Sequence[float]) -> Proposal:
        """Draw a box around the object: it is found within (and a little beyond).

        Parameters
        ----------
        start, stop : sequence of float
            Positions of two opposite corners on one plane; the part in the image counts.

        Raises
        ------
        ClickError
            If the corners lie on two planes.
        """
        began = time.perf_counter()
        corners = [self._into_the_image(p) for p in (start, stop)]
        if any(c is None for c in corners):
            return self._nothing("The box is outside the image; nothing was changed.")
        (place, one), (other_place, other) = (c for c in corners if c is not None)
        if place != other_place:
            raise ClickError("A box lies on one plane; draw one on each slice or frame.")
        drawn = box_of([pixel_of(one), pixel_of(other)])
        before = self._chronicle.object.on(place).prompts
        if any(not drawn.holds(p) for p in before.pixels(True)):
            return self._nothing("The box leaves out a positive click; nothing was changed.")
        entry = {"do": "box", "start": _plain(start), "stop": _plain(stop)}
        return self._answer(place, replace(before, box=drawn), entry, began, origin="box")

    def start_from(self, mask: Any, position: Sequence[float] | None = None) -> Proposal:
        """Begin with an object that is there, to correct it by clicks.

        Parameters
        ----------
        mask : array
            With ``position`` labels of the image (its axes without C), of which the
            object there is taken; a commit then replaces it under its id. Without, a mask
            of one plane, axes Y X in the image's order, for images of one plane.
        position : sequence of float, optional

        Raises
        ------
        ClickError
            If an image of many planes is given a mask without a position.
        """
        if position is not None:
            return self.pick(position, mask, name="", replaces=True)
        if self.canvas.plane_axes:
            raise ClickError("The image has many planes; pass labels and a position instead.")
        given = np.asarray(mask)
        self.check_labels(given)
        values = oriented(given, self.canvas.axes) != 0
        return self.start_planes({(): Patch(0, 0, np.array(values))}, "mask")

    def pick(
        self,
        position: Sequence[float],
        source: Any,
        *,
        name: str | None = None,
        replaces: bool = False,
    ) -> Proposal:
        """Take the object at a position from the result of an ordinary model.

        This is that model's object, and the proposal says so; clicks correct it.

        Parameters
        ----------
        position : sequence of float
        source : Prediction, Segmentation, or array of int
            Labels have the image's axes without C.
        name : str, optional
            Of the model, for the proposal; known of predictions.
        replaces : bool
            A commit replaces the object of the labels under its id.
        """
        found = self.canvas.locate(position)
        if found is None:
            return self._nothing(f"{_words(position)} is outside the image; nothing was changed.")
        labels, known = picking.labels_of(source, self.canvas)
        self.check_labels(labels)
        taken = picking.object_at(labels, self.canvas, *found)
        if taken is None:
            return self._nothing(f"There is no object at {_words(position)}.")
        name = known if name is None else name
        origin = f"picked from the result of {name or 'a model'}" if name != "" else "mask"
        return self.start_planes(
            taken.planes, origin, replaces=taken.id if replaces else 0, place=found[0]
        )

    def start_planes(
        self,
        planes: Mapping[Place, Patch],
        origin: str,
        *,
        replaces: int = 0,
        place: Place | None = None,
    ) -> Proposal:
        """Begin with masks of several planes; what is being clicked is dropped.

        Parameters
        ----------
        planes : mapping of place to Patch of bool
        origin : str
            In words, for the proposal.
        replaces : int
            Id of the object of the labels that this is; 0 for a new one.
        place : tuple of int, optional
            The plane to go on with; the first by default.
        """
        began = time.perf_counter()
        found = {
            at: OnPlane(Prompts(start=mask), Answer(mask), origin, mask if replaces else None)
            for at, mask in planes.items()
        }
        place = min(found) if place is None else place
        ordered = {**{at: found[at] for at in sorted(found) if at != place}, place: found[place]}
        after = ClickedObject(MappingProxyType(ordered), place, replaces)
        packed = [[list(at), journal.packed(plane.answer.mask)] for at, plane in ordered.items()]
        entry = {"do": "start", "planes": packed, "origin": origin, "replaces": replaces}
        self._chronicle.step("start", after, entry)
        return self._shown(place, seconds=time.perf_counter() - began)

    # -- back and forth -----------------------------------------------------------

    def undo(self) -> Step | None:
        """Take back what was done last: a click, a commit, an erasure, a propagation.

        Returns
        -------
        Step or None
            What was taken back; None if there was nothing. If the owner of the labels
            writes them (``write=False``), it has to revert ``step.edit``.
        """
        return self._chronicle.back()

    def redo(self) -> Step | None:
        """Do again what was taken back last; see :meth:`undo`."""
        return self._chronicle.again()

    def reset(self) -> None:
        """Drop the object that is being clicked; labels stay as they are."""
        if self._chronicle.object.started:
            self._chronicle.step("reset", ClickedObject(), {"do": "reset"})

    # -- how ----------------------------------------------------------------------

    def check_labels(self, labels: Any) -> None:
        """Refuse labels that are not made for this image.

        Raises
        ------
        ClickError
        """
        shape = tuple(int(n) for n in labels.shape)
        if shape != self.canvas.shape or np.dtype(labels.dtype).kind not in "bui":
            raise ClickError(
                f"The labels have the shape {shape} and the type {labels.dtype}; the image "
                f"{self.canvas.volume.name!r} needs {self.canvas.shape} (without channels) and "
                "whole numbers. Choose labels that were made for this image."
            )

    def eye(self, place: Place) -> Eye:
        """Return the network in front of one plane."""
        return Eye(self.canvas.reader(place), self.network, self.network.spec)

    def _into_the_image(self, position: Sequence[float]) -> tuple[Place, Point] | None:
        """Return a position moved into the image along Y and X; None if it is no number."""
        moved = [
            min(max(float(p), 0.0), length - 1.0) if axis in "YX" and p == p else p
            for p, axis, length in zip(position, self.canvas.axes, self.canvas.shape, strict=False)
        ]
        return self.canvas.locate([*moved, *position[len(moved) :]])

    def _mark(self, place: Place, mark: Prompt, entry: dict[str, Any], began: float) -> Proposal:
        before = self._chronicle.object.on(place)
        prompts = before.prompts.and_mark(mark)
        eye = self.eye(place)
        if mark.positive:
            known = before.answer.mask.box.join(box_of(prompts.pixels(True)))
            if known.longer > reach_of(eye):
                return self._nothing(
                    "The click is too far from the object that is being clicked. Commit it, then "
                    "click again."
                )
            box = prompts.box
            if box is not None and any(not box.holds(p) for p in mark.pixels()):
                prompts = replace(prompts, box=None)  # the user knows better by now
        return self._answer(place, prompts, entry, began)

    def _answer(
        self,
        place: Place,
        prompts: Prompts,
        entry: dict[str, Any],
        began: float,
        origin: str = FROM_CLICKS,
    ) -> Proposal:
        before = self._chronicle.object.on(place)
        size = self._chronicle.history.usual_size()
        answer = solve(self.eye(place), prompts, before.answer, size)
        note = ""
        if not answer.mask.values.size and not prompts.pixels(True):
            note = "There is nothing to take away from yet: click on an object first."
        found = OnPlane(prompts, answer, origin)
        self._chronicle.step(entry["do"], self._chronicle.object.with_plane(place, found), entry)
        return self._shown(place, note=note, seconds=time.perf_counter() - began)

    def _shown(self, place: Place | None, **more: Any) -> Proposal:
        known = place if place is not None else (0,) * len(self.canvas.plane_axes)
        return proposal_of(
            self._chronicle.object.on(known), self.canvas.axes, self.canvas.named(known), **more
        )

    def _nothing(self, note: str) -> Proposal:
        return replace(self._shown(self._chronicle.object.place), changed=False, note=note)


def _plain(position: Sequence[float]) -> list[float]:
    return [float(p) for p in position]


def _words(position: Sequence[float]) -> str:
    return f"({', '.join(f'{float(p):g}' for p in position)})"
