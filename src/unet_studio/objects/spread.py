"""Label a frame in many processes: block by block, with the labels of one process.

The passes are those of :mod:`unet_studio.objects.blockwise`, but nobody writes where
somebody else does, so that any step may be done twice:

1. The outlines of each block's pieces are found, and joined here.
2. The objects at home in each block are made, and written into a file of their own: where
   they are, in stretches of pixels, under ids that count from 1 in each file.
3. Here all get their final ids. :class:`SpreadLabels` paints any region out of the files.

Only pieces that are too large for a region are made here, one part after the other.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.objects.block_task import BlockTask, Columns, ObjectTable
from unet_studio.objects.blockwise import (
    DEFAULT_LIMIT,
    BlockLabelling,
    block_task,
    counted,
    numbered,
    regions_of,
)
from unet_studio.objects.grid import Region
from unet_studio.objects.oversized import (
    beyond_limit,
    blocks_of,
    label_in_parts,
    warning_of_classes,
    warning_of_objects,
)
from unet_studio.objects.pieces import Outline, PieceMap, map_pieces
from unet_studio.objects.regions import Keep, label_region
from unet_studio.objects.spread_labels import Recorder, SpreadLabels, block_file, save_runs

if TYPE_CHECKING:
    from unet_studio.images.blocks import Each
    from unet_studio.models.card import Representation
    from unet_studio.recipe import ObjectsMethod

# A block, and what to look at for the pieces at home in it.
Home = tuple[int, "list[tuple[NDArray[np.int64], Keep]]"]
Steps = Generator[tuple[int, int], None, tuple[BlockLabelling, Any]]


@dataclass(frozen=True)
class FrameWork:
    """A frame to label: what everybody who labels a block of it has to know.

    Attributes
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
        Can travel, as an array on the disk does.
    method : ObjectsMethod
    representation : {"binary", "classes", "objects"}
    block : tuple of int
        Edges in pixels, one per axis.
    folder : Path
        For what is made of the blocks.
    limit : int
        As for :func:`~unet_studio.objects.blockwise.label_blocks`.
    """

    probabilities: Any
    method: ObjectsMethod
    representation: Representation
    block: tuple[int, ...]
    folder: Path
    limit: int = DEFAULT_LIMIT

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frame."""
        return tuple(int(n) for n in self.probabilities.shape[1:])

    def task(self, output: Any = None) -> BlockTask:
        """Return the task that writes into ``output``; by default, one that only looks."""
        output = Recorder(self.shape) if output is None else output
        return block_task(
            self.probabilities, output, self.method, self.representation, self.block,
            self.limit, None,
        )  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What was made of the pieces at home in one block.

    Attributes
    ----------
    number : int
        Of the block.
    columns : tuple of array
        Of its objects, as :meth:`ObjectTable.columns` returns them.
    highest : int
        Highest label; of classes the highest class.
    touched : array of int64, axes (block,)
        Blocks that hold pixels of it.
    """

    number: int
    columns: Columns
    highest: int
    touched: NDArray[np.int64]


def outline_of(work: FrameWork, number: int) -> Outline:
    """Find the pieces of a block."""
    return work.task().outline(number)


def make_home(work: FrameWork, home: Home) -> Made:
    """Make the objects of the pieces at home in a block, and write them into its file."""
    number, regions = home
    recorder, table = Recorder(work.shape), ObjectTable(work.shape)
    task = work.task(recorder)
    for box, keep in regions:
        label_region(task, box, keep, table)
    kept = [(region, runs) for region, runs in recorder.kept if len(runs.starts)]
    save_runs(block_file(work.folder, number), len(work.shape), kept)
    homes = [next(task.grid.overlapping(region))[0] for region, _ in kept]
    touched = np.unique(np.array(homes, np.int64))
    highest = max((int(runs.values.max()) for _, runs in kept), default=0)
    return Made(number, table.columns(), highest, touched)


@dataclass(frozen=True)
class PixelClasses:
    """Classes of a frame that are made of each pixel alone, wherever they are read."""

    work: FrameWork

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frame."""
        return self.work.shape

    def __getitem__(self, region: Region) -> NDArray[np.integer]:
        task = self.work.task()
        return task.label(task.read(region))


def label_spread(work: FrameWork, each: Each, *, offset: int = 0) -> Steps:
    """Label a frame by many.

    Parameters
    ----------
    work : FrameWork
        Its folder has to exist.
    each : callable
        Does a piece of work on each of many items.
    offset : int
        Added to every object's id: the number of objects of the frames before.

    Yields
    ------
    tuple of int
        Steps done, and steps in all.

    Returns
    -------
    BlockLabelling
        As :func:`~unet_studio.objects.blockwise.label_blocks` returns it; for classes
        without their number.
    array-like
        The labels, axes ([Z,] Y, X): can be sliced, and can travel.
    """
    task = work.task()
    grid, ndim = task.grid, len(task.grid.shape)
    nothing = np.zeros(0, np.int64), np.zeros((0, ndim)), np.zeros((0, ndim, 2), np.int64)
    if task.support.pixelwise(task.options):
        yield 1, 1
        return BlockLabelling(0, *nothing), PixelClasses(work)
    total = 2 * grid.size
    outlines = each(partial(outline_of, work), range(grid.size))
    find = map_pieces(grid, task.diagonal, lambda _: next(outlines))
    pieces = yield from counted(find, 0, total)
    chosen = beyond_limit(task, pieces.boxes)
    table = ObjectTable(grid.shape)
    steps = _make_homes(work, task, pieces, chosen, each, table)
    labels = yield from counted(steps, grid.size, total)
    warnings: tuple[str, ...] = ()
    links = np.zeros((0, 2), np.int64)
    whole = table.count
    if blocks := blocks_of(pieces, chosen):
        parts = label_in_parts(work.task(labels), pieces, chosen, blocks, table)
        links = yield from counted(parts, total, total + len(blocks))
    if not task.method.makes_objects:
        if blocks:
            warnings = (warning_of_classes(task, int(chosen.sum())),)
        return BlockLabelling(0, *nothing, warnings), labels
    new, sizes, centroids, boxes = numbered(table, links)
    if blocks:
        made = len(np.unique(new[whole + 1 :]))
        warnings = (warning_of_objects(task, int(chosen.sum()), made),)
    task.ensure_room(len(sizes) + offset)
    labels.number(np.where(new > 0, new + offset, 0))
    return BlockLabelling(len(sizes), sizes, centroids, boxes, warnings), labels


def _make_homes(
    work: FrameWork,
    task: BlockTask,
    pieces: PieceMap,
    chosen: NDArray[np.bool_],
    each: Each,
    table: ObjectTable,
) -> Generator[int, None, SpreadLabels]:
    """Make the objects of all pieces that can be seen as a whole."""
    size = task.grid.size
    homes = ((n, list(regions_of(task, pieces, chosen, n))) for n in range(size))
    made = each(partial(make_home, work), (home for home in homes if home[1]))
    bases = np.zeros(size, np.int64)
    pairs = [np.zeros((0, 2), np.int64)]
    done = 0
    for result in made:
        bases[result.number] = table.count
        table.join(result.columns)
        of = np.full(len(result.touched), result.number)
        pairs.append(np.stack([result.touched, of], axis=1))
        yield result.number + 1 - done
        done = result.number + 1
    if done < size:
        yield size - done
    every = np.concatenate(pairs)
    every = every[np.lexsort((every[:, 1], every[:, 0]))]
    return SpreadLabels(work.folder, task.grid, task.method.makes_objects, every, bases)
