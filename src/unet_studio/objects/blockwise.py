"""Run an objects method on a frame of any size: block by block, with the same labels.

The methods look at each connected piece of foreground on its own, and no further
than a known margin around it. So it is enough that every piece is seen as a whole
once. Three passes:

1. Find the pieces block by block, and join those that touch across a seam.
2. For each block, read a region that holds every piece whose bounding box begins in
   it, run the method there, and write the objects of these pieces.
3. Number the objects in the order of a scan over the whole frame.

Memory holds one region, some faces of blocks, and a few numbers for every piece that
crosses a seam and for every object. A piece too large for a region of its own is
labelled in overlapping parts, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import RecipeError
from unet_studio.objects.block_task import BlockTask, ObjectTable
from unet_studio.objects.grid import Grid
from unet_studio.objects.methods import METHODS, Method, parse_options, suitable_methods
from unet_studio.objects.oversized import (
    beyond_limit,
    blocks_of,
    label_in_parts,
    warning_of_classes,
    warning_of_objects,
)
from unet_studio.objects.pieces import PieceMap, map_pieces, unite
from unet_studio.objects.regions import Keep, label_region

if TYPE_CHECKING:
    from pydantic import BaseModel

    from unet_studio.models.card import Representation
    from unet_studio.recipe import ObjectsMethod

# About 4 GB while the watershed works on them.
DEFAULT_LIMIT = 2**26

Progress = Generator[tuple[int, int], None, "BlockLabelling"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class BlockLabelling:
    """What was written.

    Attributes
    ----------
    count : int
        Number of objects, or the highest class found.
    sizes : array of int64, axes (object,)
        In pixels, by id. Empty where the labels are classes.
    centroids : array of float64, axes (object, axis)
        In pixels: 0 is the centre of the first one.
    boxes : array of int64, axes (object, axis, 2)
        First pixel, and the one after the last.
    warnings : tuple of str
        What the user should know.
    """

    count: int
    sizes: NDArray[np.int64]
    centroids: NDArray[np.float64]
    boxes: NDArray[np.int64]
    warnings: tuple[str, ...] = ()


def label_blocks(
    probabilities: Any,
    output: Any,
    method: ObjectsMethod,
    representation: Representation,
    *,
    block: Sequence[int],
    offset: int = 0,
    limit: int = DEFAULT_LIMIT,
    check: Callable[[], None] | None = None,
) -> Progress:
    """Turn the probabilities of one frame into labels, block by block.

    The labels are those of :func:`unet_studio.objects.run.run_objects`, to the pixel
    and to the id, but for pieces of foreground beyond ``limit``.

    Parameters
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
        Numpy, zarr or anything of the kind; only sliced.
    output : array of int, axes ([Z,] Y, X)
        Numpy, zarr or anything of the kind; sliced and assigned to. It has to hold
        zeros only. What a stopped run leaves in it is of no use.
    method : ObjectsMethod
        ``link`` is not looked at: this is one frame.
    representation : {"binary", "classes", "objects"}
        What the channels mean.
    block : sequence of int
        Edges of a block in pixels, one per axis of the output. Multiples of its
        chunks are fast. Best several times as long as an object.
    offset : int
        Added to every object's id: the number of objects of the frames before.
    limit : int
        Most pixels (voxels) of a single region that is made for one large piece.
    check : callable, optional
        Called before each step; may raise to stop.

    Yields
    ------
    tuple of int
        Steps done and steps in all. There may turn out to be more after the first
        third, where pieces are found to be beyond the limit.

    Returns
    -------
    BlockLabelling

    Raises
    ------
    RecipeError
        If the method, an option or the block does not fit, the method can not run
        block by block, or there is too little memory for a block.
    ImageError
        If the probabilities can not be read.
    OutputError
        If the labels can not be written, or the ids do not fit.
    """
    task = block_task(probabilities, output, method, representation, block, limit, check)
    return _with_memory(task, _run(task, offset))


def block_task(
    probabilities: Any,
    output: Any,
    method: ObjectsMethod,
    representation: Representation,
    block: Sequence[int],
    limit: int,
    check: Callable[[], None] | None,
) -> BlockTask:
    """Check what can be checked before the work begins."""
    chosen, options = check_method(method, representation)
    assert chosen.support is not None
    shape = _fitting_shape(probabilities, output, block)
    grid = Grid(shape, tuple(min(int(b), max(n, 1)) for b, n in zip(block, shape, strict=True)))
    return BlockTask(
        probabilities=probabilities,
        output=output,
        method=chosen,
        options=options,
        representation=representation,
        support=chosen.support,
        grid=grid,
        limit=limit,
        check=check or (lambda: None),
        touched=np.zeros(grid.size, np.bool_),
    )


def check_method(
    method: ObjectsMethod, representation: Representation
) -> tuple[Method, BaseModel]:
    """Return a method that can run block by block, and its parsed options.

    Raises
    ------
    RecipeError
        If it can not, does not take such probabilities, or has no such options.
    """
    chosen = METHODS.load(method.method)
    options = parse_options(method)
    if representation not in chosen.representations:
        raise RecipeError(
            f"The objects method {method.method!r} can not be used with {representation!r} "
            f"probabilities. Choose one of: {', '.join(suitable_methods(representation))}."
        )
    if chosen.support is None:
        able = [n for n in suitable_methods(representation) if METHODS.load(n).support]
        raise RecipeError(
            f"The objects method {method.method!r} does not say where it looks, so it can not "
            "run block by block on an image that does not fit into memory. Choose one of: "
            f"{', '.join(able)}; or segment a smaller part of the image."
        )
    if reason := chosen.support.refused(options):
        raise RecipeError(
            f"The objects method {method.method!r} can not run block by block, through the disk, "
            f"with these options: {reason}. Switch that off, or segment a smaller part of the "
            "image in memory."
        )
    return chosen, options


def _fitting_shape(probabilities: Any, output: Any, block: Sequence[int]) -> tuple[int, ...]:
    """Return the frame's shape, if the arrays and the block go with it."""
    shape = tuple(int(n) for n in output.shape)
    if tuple(probabilities.shape[1:]) != shape:
        raise RecipeError(
            f"Probabilities of shape {tuple(probabilities.shape)} (channels first) do not fit "
            f"labels of shape {shape}. Make the label array as large as the image."
        )
    if np.dtype(output.dtype).kind not in "iu":
        raise RecipeError(
            f"Labels are whole numbers and can not be written as {output.dtype}. Make the label "
            "array of uint32."
        )
    if len(block) != len(shape) or any(int(b) < 1 for b in block):
        raise RecipeError(
            f"A block of {tuple(block)} pixels does not fit an image of shape {shape}: give one "
            "length of at least 1 per axis."
        )
    return shape


def _with_memory(task: BlockTask, steps: Progress) -> Progress:
    try:
        return (yield from steps)
    except MemoryError as error:
        raise RecipeError(
            f"There is not enough memory to make objects in blocks of {task.grid.block} pixels "
            f"and regions of up to {task.limit:,}. Choose smaller blocks or a lower limit, or "
            "close other programs."
        ) from error


def _run(task: BlockTask, offset: int) -> Progress:
    grid = task.grid
    ndim = len(grid.shape)
    empty = np.zeros(0, np.int64), np.zeros((0, ndim)), np.zeros((0, ndim, 2), np.int64)
    if task.support.pixelwise(task.options):
        for number in range(grid.size):
            task.check()
            bounds = grid.bounds(number)
            task.add(bounds, task.label(task.read(bounds)))
            yield number + 1, grid.size
        return BlockLabelling(task.highest, *empty)
    table = ObjectTable(grid.shape)
    total = 3 * grid.size
    pieces = yield from counted(map_pieces(grid, task.diagonal, task.outline), 0, total)
    chosen = beyond_limit(task, pieces.boxes)
    blocks = blocks_of(pieces, chosen)
    total += len(blocks)
    yield from counted(_label_whole(task, pieces, chosen, table), grid.size, total)
    whole = table.count
    parts = label_in_parts(task, pieces, chosen, blocks, table)
    links = yield from counted(parts, 2 * grid.size, total)
    warnings: tuple[str, ...] = ()
    if not task.method.makes_objects:
        if blocks:
            warnings = (warning_of_classes(task, int(chosen.sum())),)
        yield total, total
        return BlockLabelling(task.highest, *empty, warnings)
    new, sizes, centroids, boxes = numbered(table, links)
    if blocks:
        made = len(np.unique(new[whole + 1 :]))
        warnings = (warning_of_objects(task, int(chosen.sum()), made),)
    task.ensure_room(len(sizes) + offset)
    yield from counted(_renumber(task, new, offset), total - grid.size, total)
    return BlockLabelling(len(sizes), sizes, centroids, boxes, warnings)


def counted(
    steps: Generator[int, None, Result], done: int, total: int
) -> Generator[tuple[int, int], None, Result]:
    """Add up the steps of one pass."""
    while True:
        try:
            done += next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield done, total


def _label_whole(
    task: BlockTask, pieces: PieceMap, oversized: NDArray[np.bool_], table: ObjectTable
) -> Generator[int, None, None]:
    """Label every piece that can be seen as a whole."""
    for number in range(task.grid.size):
        for box, keep in regions_of(task, pieces, oversized, number):
            task.check()
            label_region(task, box, keep, table)
            yield 0
        yield 1


def regions_of(
    task: BlockTask, pieces: PieceMap, oversized: NDArray[np.bool_], number: int
) -> Iterator[tuple[NDArray[np.int64], Keep]]:
    """Yield what to look at for the pieces at home in a block.

    Yields
    ------
    box : array of int64, axes (axis, 2)
        Without the margin.
    keep : callable
        Tells by their boxes (piece, axis, 2) which of the pieces found there are meant.
        Pieces may share a box; they are told apart by nothing else, and need not be.
    """
    grid, rows = task.grid, pieces.at(number)
    boxes = pieces.boxes[rows]
    alone = grid.stretch(boxes)
    near = boxes[~alone]
    if number in pieces.closed:
        near = np.append(near, pieces.closed[number][None], axis=0)
    if len(near):
        box = np.stack([near[:, :, 0].min(axis=0), near[:, :, 1].max(axis=0)], axis=1)
        yield box, partial(_near_home, grid, number)
    for box in np.unique(boxes[alone & ~oversized[rows]], axis=0):
        yield box, partial(_same_box, box)


def _near_home(grid: Grid, number: int, boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray((grid.homes(boxes) == number) & ~grid.stretch(boxes))


def _same_box(box: NDArray[np.int64], boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray((boxes == box).all(axis=(1, 2)))


def numbered(
    table: ObjectTable, links: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Give the objects numbers in scan order, those that are linked the same.

    Returns
    -------
    new : array of int64, axes (temporary id,)
        0 for the background, then 1..n.
    sizes : array of int64, axes (object,)
    centroids : array of float64, axes (object, axis)
    boxes : array of int64, axes (object, axis, 2)
    """
    firsts, sizes, sums, parts = table.columns()
    group_of = unite(table.count, links - 1)
    groups = int(group_of.max(initial=-1)) + 1
    first = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(first, group_of, firsts)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(groups)
    row = rank[group_of]
    pixels = np.zeros(groups, np.int64)
    total = np.zeros((groups, sums.shape[1]), np.int64)
    np.add.at(pixels, row, sizes)
    np.add.at(total, row, sums)
    boxes = np.zeros((groups, sums.shape[1], 2), np.int64)
    boxes[..., 0] = np.iinfo(np.int64).max
    np.minimum.at(boxes[..., 0], row, parts[..., 0])
    np.maximum.at(boxes[..., 1], row, parts[..., 1])
    return np.append(0, row + 1), pixels, total / pixels[:, None], boxes


def _renumber(task: BlockTask, new: NDArray[np.int64], offset: int) -> Generator[int, None, None]:
    """Replace the temporary ids in the output."""
    final = np.where(new > 0, new + offset, 0)
    unchanged = bool((final == np.arange(len(final))).all())
    final = final.astype(task.output.dtype)
    for number in range(task.grid.size):
        if task.touched[number] and not unchanged:
            task.check()
            bounds = task.grid.bounds(number)
            task.store(bounds, final[task.stored(bounds)])
        yield 1
