"""Link the objects of successive frames: one object keeps one id through time.

What becomes of which object is decided in :mod:`unet_studio.objects.fates`. Here the
frames are looked at and renumbered, part by part, so that they may lie on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.errors import OutputError
from unet_studio.objects.contingency import overlaps_of_parts
from unet_studio.objects.fates import Fates, decide_fates

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from unet_studio.objects.grid import Region
    from unet_studio.recipe import Linking

    Ints = NDArray[np.int64]

# An object that was lost is looked for as long as so much of its place is free.
_FREE_SHARE = 0.5


@dataclass(frozen=True)
class Tracks:
    """What became of each object.

    Attributes
    ----------
    label : array of int64, axes (track)
        1..n in the order in which objects appear: by frame, then as a scan of
        the frame meets them.
    first_frame, last_frame : array of int64, axes (track)
        Frames, counted from 0, in which the object is seen first and last.
    parent : array of int64, axes (track)
        The object that split into this one and others; 0 if none did.
    merged_into : array of int64, axes (track)
        The object that this one became a part of after its last frame; 0 if none.
    frames : array of int64, axes (track)
        Number of frames in which the object is seen: less than those from first
        to last where a gap was bridged.
    length : int
        Number of frames of the movie.

    Notes
    -----
    The first four columns are those of the Cell Tracking Challenge's tables (label,
    begin, end, parent; Maška et al. 2014, Bioinformatics 30:1609), and so is the
    rule that an object ends where it splits, and all daughters get new ids.
    """

    label: Ints
    first_frame: Ints
    last_frame: Ints
    parent: Ints
    merged_into: Ints
    frames: Ints
    length: int

    def columns(self) -> dict[str, Ints]:
        """Return the table, one row per object, by ``label``."""
        return {
            "label": self.label,
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "parent": self.parent,
            "merged_into": self.merged_into,
            "frames": self.frames,
        }

    def counts(self) -> dict[str, int]:
        """Count what happened, for the run record.

        Returns
        -------
        dict of str to int
            - ``tracks``: objects
            - ``births``: of these, those that appear after the first frame and
              have no parent
            - ``splits``: objects that split
            - ``merges``: objects that became a part of another one
            - ``ends``: objects that are gone before the last frame for neither reason
            - ``bridged_frames``: frames in which an object is missing between its
              first and its last one
        """
        mothers = np.unique(self.parent[self.parent > 0])
        gone = (self.last_frame < self.length - 1) & (self.merged_into == 0)
        missing = self.last_frame - self.first_frame + 1 - self.frames
        return {
            "tracks": len(self.label),
            "births": int(((self.first_frame > 0) & (self.parent == 0)).sum()),
            "splits": len(mothers),
            "merges": int((self.merged_into > 0).sum()),
            "ends": int((gone & ~np.isin(self.label, mothers)).sum()),
            "bridged_frames": int(missing.sum()),
        }


class Linker:
    """Renumbers the objects of a movie, frame by frame, so that each keeps its id.

    Of the frames before, one array is kept: where every object was seen last, as far
    as it may still be continued. Beyond that there are a few numbers per object.

    Parameters
    ----------
    options : Linking
    known : numpy or Zarr array of int, axes ([Z,] Y, X)
        As large as a frame, and all 0: the array that is kept. It is written to.
    regions : sequence of tuple of slice
        Parts of a frame, which cover it once: no more is looked at at a time.

    Notes
    -----
    The result does not depend on the parts.
    """

    def __init__(self, options: Linking, known: Any, regions: Sequence[Region]) -> None:
        self._options, self._known, self._regions = options, known, regions
        none = np.zeros(0, np.int64)
        # Of the objects 1..k in the array: track, last frame, pixels when seen there.
        self._ids, self._seen, self._sizes = none, none, none
        self._book, self._number = _Book(), 0

    def link(self, frame: Any, count: int, check: Callable[[], None] | None = None) -> Ints:
        """Give the objects of the next frame their ids.

        Parameters
        ----------
        frame : numpy or Zarr array of int, axes as those of ``known``
            Labelled 1..``count`` in the order of a scan, so that the method's own
            numbers decide nothing. Holds the linked ids afterwards.
        count : int
        check : callable, optional
            Called before each part; may raise to stop. The frame is of no use then.

        Returns
        -------
        array of int64, axes (object,)
            The id of each.

        Raises
        ------
        OutputError
            If the frame's dtype does not hold the ids.
        """
        check = check or (lambda: None)
        fates = self._compare(frame, count, check)
        ids = self._book.enter(self._number, self._ids, fates)
        most = int(np.iinfo(frame.dtype).max)
        if self._book.count > most:
            raise OutputError(
                f"There are {self._book.count:,} objects in all frames so far, but the label "
                f"array holds {most:,} at most. Write to an array of uint32 or uint64."
            )
        lost = self._lost(frame, fates, check)
        places = np.zeros(len(lost) + 1, np.int64)
        places[1:][lost] = count + 1 + np.arange(int(lost.sum()))
        renumbered = np.append(0, ids)
        for region in self._regions:
            check()
            labels = np.asarray(frame[region])
            old = np.asarray(self._known[region])
            kept = np.where(labels == 0, places[old], labels)
            self._known[region] = kept.astype(self._known.dtype)
            frame[region] = renumbered[labels].astype(frame.dtype)
        self._ids = np.concatenate([ids, self._ids[lost]])
        seen = np.full(count, self._number, np.int64)
        self._seen = np.concatenate([seen, self._seen[lost]])
        self._sizes = np.concatenate([fates.sizes, self._sizes[lost]])
        self._number += 1
        return ids

    def tracks(self) -> Tracks:
        """Return what became of each object in the frames so far."""
        return self._book.tracks(self._number)

    def _compare(self, frame: Any, count: int, check: Callable[[], None]) -> Fates:
        def parts() -> Generator[tuple[Any, Any], None, None]:
            for region in self._regions:
                check()
                yield np.asarray(self._known[region]), np.asarray(frame[region])

        table = overlaps_of_parts(parts(), len(self._ids), count)
        return decide_fates(table, self._options.min_overlap)

    def _lost(self, frame: Any, fates: Fates, check: Callable[[], None]) -> NDArray[np.bool_]:
        """Return which known objects are to be looked for in the frames to come.

        They stay where they were seen last, as far as no other object lies there now.
        """
        lost = (fates.merged < 0) & (self._number - self._seen <= self._options.max_gap)
        for used in (fates.continues, fates.mother):
            lost[used[used >= 0]] = False
        if not lost.any():
            return lost
        free = np.zeros(len(lost) + 1, np.int64)
        for region in self._regions:
            check()
            old = np.asarray(self._known[region])[np.asarray(frame[region]) == 0]
            free += np.bincount(old, minlength=len(free))
        lost &= (free[1:] > 0) & (free[1:] >= _FREE_SHARE * self._sizes)
        return lost


@dataclass
class _Book:
    """The table of tracks while it grows: one entry per track in each list."""

    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of tracks so far."""
        return len(self.first)

    def enter(self, number: int, known: Ints, fates: Fates) -> Ints:
        """Note what a frame holds; return the id of each of its objects.

        ``known`` are the tracks of the objects that it was compared with.
        """
        ids = np.zeros(len(fates.continues), np.int64)
        for position, (old, mother) in enumerate(
            zip(fates.continues.tolist(), fates.mother.tolist(), strict=True)
        ):
            if old >= 0:
                track = int(known[old])
                self.last[track - 1] = number
                self.frames[track - 1] += 1
            else:
                self.first.append(number)
                self.last.append(number)
                self.parent.append(int(known[mother]) if mother >= 0 else 0)
                self.merged.append(0)
                self.frames.append(1)
                track = len(self.first)
            ids[position] = track
        for old in np.flatnonzero(fates.merged >= 0):
            self.merged[known[old] - 1] = int(ids[fates.merged[old]])
        return ids

    def tracks(self, length: int) -> Tracks:
        """Return the table of a movie of so many frames."""
        return Tracks(
            label=np.arange(1, len(self.first) + 1, dtype=np.int64),
            first_frame=np.array(self.first, np.int64),
            last_frame=np.array(self.last, np.int64),
            parent=np.array(self.parent, np.int64),
            merged_into=np.array(self.merged, np.int64),
            frames=np.array(self.frames, np.int64),
            length=length,
        )
