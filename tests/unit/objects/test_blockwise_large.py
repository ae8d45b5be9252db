"""Block by block there may be more pixels and objects than fit anywhere else."""

from __future__ import annotations

import tracemalloc

import numpy as np
import zarr
from scipy import ndimage
from zarr.storage import MemoryStore

from support.blockwise import packed_objects, probabilities_of
from unet_studio.events import drain
from unet_studio.objects.blockwise import label_blocks
from unet_studio.recipe import ObjectsMethod


def peak_memory(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_image():
    tile = probabilities_of(packed_objects((128, 128), 40), "objects")
    tile[:, :, :2] = tile[:, :2] = 0  # pieces end at the tile's edge
    method = ObjectsMethod(method="watershed")

    def peak(repeat):
        shape = (128 * repeat, 128 * repeat)
        source = zarr.create_array(
            MemoryStore(), shape=(3, *shape), chunks=(3, 128, 128), dtype="float16"
        )
        for index in np.ndindex(repeat, repeat):
            y, x = (slice(128 * i, 128 * i + 128) for i in index)
            source[:, y, x] = tile
        output = zarr.create_array(MemoryStore(), shape=shape, chunks=(128, 128), dtype="uint32")
        steps = label_blocks(source, output, method, "objects", block=(128, 128))
        return peak_memory(lambda: drain(steps))

    small, large = peak(2), peak(6)  # nine times the pixels
    assert large < 1.5 * small
    assert large < 128 * 128 * 6 * 9 * 4


class Mostly:
    """Probabilities that are 0 but for some rectangles: never in memory as a whole."""

    def __init__(self, shape, rectangles):
        self.shape, self.rectangles = (1, *shape), rectangles

    def __getitem__(self, key):
        region = key[1:]
        found = np.broadcast_to(np.float32(0), (1, *[r.stop - r.start for r in region]))
        for box in self.rectangles:
            cut = [
                slice(max(b[0], r.start) - r.start, min(b[1], r.stop) - r.start)
                for b, r in zip(box, region, strict=True)
            ]
            if all(c.start < c.stop for c in cut):
                found = found.copy()
                found[(0, *cut)] = 1
        return found


def test_L03_more_pixels_than_32_bits_can_count():
    side = 4096 * 12
    assert side * side > 2**31
    rectangles = [
        ((40, 50), (49_000, 49_010)),
        ((4090, 4100), (4090, 4100)),  # on the corner of four blocks
        ((49_000, 49_010), (5, 10)),
        ((49_000, 49_010), (20, 23)),
        ((49_100, 49_152), (49_100, 49_152)),
    ]
    store = MemoryStore()
    output = zarr.create_array(store, shape=(side, side), chunks=(512, 512), dtype="uint32")
    result = drain(
        label_blocks(
            Mostly((side, side), rectangles),
            output,
            ObjectsMethod(method="components"),
            "binary",
            block=(4096, 4096),
            offset=7,
        )
    )
    assert result.sizes.tolist() == [100, 100, 50, 30, 52 * 52]
    # By row, then by column, as the rectangles are listed.
    for number, (y, x) in enumerate(rectangles):
        assert result.centroids[number].tolist() == [(sum(y) - 1) / 2, (sum(x) - 1) / 2]
        assert (output[slice(*y), slice(*x)] == number + 8).all()


def test_L03_more_than_a_million_objects():
    side = 3100  # squares of 2 pixels, one in 3: blocks of 1000 cut some of them
    row = np.arange(side) % 3 < 2
    squares = row[:, None] & row[None, :]
    output = np.zeros((side, side), np.uint32)
    method = ObjectsMethod(method="components", options={"min_size": 0, "fill_holes": False})
    result = drain(
        label_blocks(
            squares[None].astype(np.float32), output, method, "binary", block=(1000, 1000)
        )
    )
    expected, count = ndimage.label(squares)
    assert count > 1_000_000
    assert len(result.sizes) == count
    np.testing.assert_array_equal(output, expected)
