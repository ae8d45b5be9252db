"""The object that is being clicked: what is known of it, plane by plane, as frozen values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.clicks.commit import Edit, Region, oriented, region_of
from unet_studio.clicks.prompts import Patch, Prompt, Prompts
from unet_studio.clicks.solving import Answer
from unet_studio.clicks.views import View

# Positions along the axes that are not Y, X or C, in the image's order.
Place = tuple[int, ...]

FROM_CLICKS = "clicks"


@dataclass(frozen=True)
class OnPlane:
    """What is known of an object on one plane."""

    prompts: Prompts = field(default_factory=Prompts)
    answer: Answer = field(default_factory=Answer)
    origin: str = FROM_CLICKS
    replaced: Patch | None = None  # of the object that is corrected: given up by a commit


@dataclass(frozen=True)
class ClickedObject:
    """The object that is being clicked; nothing of it is in any labels yet.

    Attributes
    ----------
    planes : mapping of place to OnPlane
    place : tuple of int or None
        The plane that was worked on last.
    replaces : int
        Id of the object of the labels that it corrects; 0 for a new one.
    """

    planes: Mapping[Place, OnPlane] = field(default_factory=lambda: MappingProxyType({}))
    place: Place | None = None
    replaces: int = 0

    def on(self, place: Place) -> OnPlane:
        """Return what is known on a plane; of one not looked at, nothing."""
        return self.planes.get(place, OnPlane())

    def with_plane(self, place: Place, found: OnPlane, **changes: Any) -> ClickedObject:
        """Return the object with another state of one plane, which becomes the current one."""
        # A correction gives up its old pixels, however often the plane is answered anew.
        if found.replaced is None:
            found = replace(found, replaced=self.on(place).replaced)
        planes = MappingProxyType({**self.planes, place: found})
        return replace(self, planes=planes, place=place, **changes)

    @property
    def started(self) -> bool:
        """Whether anything was pointed at."""
        return bool(self.planes)

    @property
    def empty(self) -> bool:
        """Whether it has no pixel on any plane."""
        return not any(p.answer.mask.values.any() for p in self.planes.values())


@dataclass(frozen=True)
class Step:
    """One thing that can be undone.

    Attributes
    ----------
    what : str
        In words, for a menu: "click", "commit".
    before, after : ClickedObject
    edit : Edit or None
        What it did to labels.
    target : array or None
        The labels that the session itself wrote to; None if its owner did.
    """

    what: str
    before: ClickedObject
    after: ClickedObject
    edit: Edit | None = None
    target: Any = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class Proposal:
    """The object on one plane, in its box: what a click gives.

    Attributes
    ----------
    mask : array of bool, read-only
        The object in its box. Axes Y and X in the image's order. Empty if there is none.
    region : tuple of slice or int
        What to index labels with that have the image's axes without C: those of the box,
        and numbers for the plane. ``labels[proposal.region][proposal.mask]`` is the object.
    place : mapping of axis letter to int
        The plane.
    clicks : tuple of Prompt
        All that was pointed at on this plane.
    origin : str
        Where the object comes from, in words: "clicks", "box", "mask", "propagation", or
        of which model's result it was picked.
    confidence : float
        IoU with the truth that the network expects, range [0, 1]; 0 if it was not asked.
    corrections : tuple of str
        What had to be changed in the network's answer to keep to the clicks.
    looks : tuple of View
        Where the network looked.
    changed : bool
        Whether the last call did anything.
    note : str
        What the user should know of it, such as why nothing happened.
    seconds : float
        That it took.
    """

    mask: NDArray[np.bool_]
    region: Region
    place: Mapping[str, int]
    clicks: tuple[Prompt, ...] = ()
    origin: str = FROM_CLICKS
    confidence: float = 0.0
    corrections: tuple[str, ...] = ()
    looks: tuple[View, ...] = ()
    changed: bool = True
    note: str = ""
    seconds: float = 0.0

    @property
    def corrected(self) -> bool:
        """Whether the network's answer was changed to keep to the clicks."""
        return bool(self.corrections)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    def holds(self, position: tuple[int, ...]) -> bool:
        """Whether a pixel (one number per axis of the labels) is part of the object."""
        inner = []
        for part, at in zip(self.region, position, strict=True):
            if isinstance(part, slice):
                if not part.start <= at < part.stop:
                    return False
                inner.append(at - part.start)
            elif part != at:
                return False
        return bool(self.mask[tuple(inner)])


def proposal_of(found: OnPlane, axes: str, place: Mapping[str, int], **more: Any) -> Proposal:
    """Return what the user is shown of an object on a plane.

    Parameters
    ----------
    found : OnPlane
    axes : str
        Of the image, without C.
    place : mapping of axis letter to int
    **more
        Further fields of the proposal.
    """
    mask = found.answer.mask
    return Proposal(
        oriented(mask.values, axes),
        region_of(axes, place, mask.box),
        MappingProxyType(dict(place)),
        found.prompts.marks,
        found.origin,
        found.answer.confidence,
        found.answer.corrections,
        found.answer.looks,
        **more,
    )


def digest(mask: Patch) -> str:
    """Return sixteen letters that stand for a mask and its place, for comparing sessions."""
    box = mask.box
    text = f"{box.top} {box.left} {box.bottom} {box.right} ".encode()
    return hashlib.sha256(text + np.packbits(mask.values).tobytes()).hexdigest()[:16]


def digest_of(digests: list[str]) -> str:
    """Return sixteen letters that stand for the masks of several planes."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
