"""Arrays of every make a user may hand in: read right, or refused by name (F10-F28)."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr

from unet_studio.axes import Axes
from unet_studio.errors import AxesError, ImageError
from unet_studio.images.blocks import _blocks
from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics
from unet_studio.images.readers import read_image
from unet_studio.images.volume import Volume, as_volume
from unet_studio.images.writers import write_labels

IMAGE = np.random.default_rng(7).integers(0, 200, (24, 36), dtype=np.uint8)


def _network_input(volume: Volume) -> np.ndarray:
    block = volume.read()
    return percentile_scaling(sample_for_statistics(block)).apply(block)


EXPECTED = _network_input(as_volume(IMAGE))


def _check(array: object, axes: str = "YX", expected: np.ndarray = EXPECTED) -> None:
    """What reaches the network is the same, native, contiguous float32."""
    volume = as_volume(array, axes)
    assert volume.read().dtype.isnative
    scaled = _network_input(volume)
    assert scaled.dtype == np.float32
    assert scaled.flags.c_contiguous
    assert scaled.flags.writeable
    assert all(step > 0 for step in scaled.strides)
    np.testing.assert_allclose(scaled, expected, atol=1e-6)


def _memmap(tmp_path: Path, dtype: str = "u1") -> np.memmap:
    path = tmp_path / "raw.bin"
    path.write_bytes(IMAGE.astype(dtype).tobytes())
    return np.memmap(path, dtype, "r", shape=IMAGE.shape)


@pytest.mark.parametrize("shape", [(0, 20), (20, 0), (0, 0)])
def test_F10_empty_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"'mine' is empty .*nothing to segment"):
        as_volume(np.zeros(shape), name="mine")


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_F11_F12_a_pixel_and_a_line(shape: tuple[int, int]) -> None:
    volume = as_volume(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    assert volume.read().shape == (1, *shape)
    assert np.isfinite(_network_input(volume)).all()


@pytest.mark.parametrize("flip", [(slice(None, None, -1),), (..., slice(None, None, -1))])
def test_F17_negative_stride(flip: tuple) -> None:
    _check(np.ascontiguousarray(IMAGE[flip])[flip])


def test_F18_negative_stride_on_a_length_1_axis() -> None:
    array = IMAGE.reshape(1, *IMAGE.shape)[::-1]
    assert array.strides[0] < 0
    _check(array, "ZYX", EXPECTED[:, None])
    _check(array, "CYX")


def test_F19_fortran_order() -> None:
    _check(np.asfortranarray(IMAGE))


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f4", ">f8"])
def test_F20_big_endian(dtype: str) -> None:
    _check(IMAGE.astype(dtype))


def test_F21_read_only_memmap(tmp_path: Path) -> None:
    mapped = _memmap(tmp_path)
    _check(mapped)
    np.testing.assert_array_equal(mapped, IMAGE)


def test_F22_bool() -> None:
    mask = IMAGE > 100
    _check(mask, expected=_network_input(as_volume(mask.astype(np.uint8))))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.int16, np.int32, np.int64])
def test_F23_integers(dtype: type) -> None:
    _check(IMAGE.astype(dtype))


def test_F23_signed_bytes_and_large_integers() -> None:
    _check((IMAGE.astype(int) - 100).astype(np.int8))
    huge = IMAGE.astype(np.uint64) + np.uint64(2**63)
    _check((huge - np.uint64(2**63)) * np.uint64(2**50))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_F24_floats(dtype: type) -> None:
    _check(IMAGE.astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("c8", "complex64"),
        ("c16", "complex128"),
        (object, "object"),
        ("U3", "<U3"),
        ("M8[s]", "datetime64"),
        ([("r", "u1"), ("g", "u1")], "r"),
    ],
)
def test_F25_other_types_are_refused_by_name(dtype: object, name: str) -> None:
    with pytest.raises(ImageError, match=r"'mine' holds values of type") as caught:
        as_volume(np.zeros((4, 4), dtype), name="mine")
    assert name in str(caught.value)
    with pytest.raises(ImageError, match=r"is a list; pass a numpy"):
        as_volume([[1, 2], [3, 4]])


def test_F26_dask_chunks_of_unknown_size() -> None:
    array = da.from_array(IMAGE, chunks=(8, 36))
    unknown = array[array[:, 0] > 3]
    with pytest.raises(ImageError, match=r"unknown size.*compute_chunk_sizes"):
        as_volume(unknown)
    _check(array)


def test_F27_dask_block_that_raises_is_named() -> None:
    def broken(block: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        if block_info and block_info[0]["chunk-location"] == (1, 2):
            raise OSError("disk unplugged")
        return block

    array = da.from_array(IMAGE, chunks=(12, 12)).map_blocks(broken, dtype=np.uint8)
    volume = as_volume(array, name="stack")
    with pytest.raises(ImageError, match=r"stack could not be read at block Y 12:24, X 24:36"):
        volume.read()
    with pytest.raises(ImageError, match=r"Y 12:24, X 24:36.*disk unplugged"):
        volume.read({"Y": slice(4, 20), "X": slice(10, 30)})
    np.testing.assert_array_equal(volume.read({"X": slice(0, 24)})[0], IMAGE[:, :24])


def test_F27_an_error_without_words_still_has_a_message() -> None:
    class Dead:
        shape, dtype = (4, 4), np.dtype("u1")

        def __getitem__(self, key: object) -> np.ndarray:
            raise KeyError

    with pytest.raises(ImageError, match=r"dead could not be read at Y 1:3: KeyError"):
        as_volume(Dead(), name="dead").read({"Y": slice(1, 3)})


def test_F27_a_message_of_ours_is_not_wrapped_in_another() -> None:
    class Refusing:
        shape, dtype = (4, 4), np.dtype("u1")

        def __getitem__(self, key: object) -> np.ndarray:
            raise ImageError("Plug the disk in again.")

    with pytest.raises(ImageError, match=r"^Plug the disk in again\.$"):
        as_volume(Refusing()).read()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    labels = np.random.default_rng(1).integers(0, 9, (1, 2100, 1200), dtype=np.uint16)
    return write_labels(labels, Axes("ZYX"), tmp_path / "labels.ome.zarr")


def test_F28_corrupt_chunk_is_found_and_named(store: Path) -> None:
    chunk = store / "0" / "c" / "0" / "3" / "2"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1  # one bit: Zstandard alone often does not notice
    chunk.write_bytes(content)
    volume = read_image(store)
    with pytest.raises(ImageError, match=r"labels\.ome\.zarr .*Z 0:1, Y 768:1024, X 512:768"):
        volume.read()
    assert volume.read({"Y": slice(0, 700)}).shape == (1, 1, 700, 1200)


def test_F28_truncated_and_missing_chunks(store: Path) -> None:
    chunk = store / "0" / "c" / "0" / "3" / "2"
    chunk.write_bytes(chunk.read_bytes()[:-10])
    with pytest.raises(ImageError, match="damaged"):
        read_image(store)
    chunk.unlink()
    with pytest.raises(ImageError, match="chunk 0/c/0/3/2 is missing"):
        read_image(store)


def test_F28_corrupt_chunk_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.zarr"
    zarr.create_array(path, data=IMAGE, chunks=(12, 12))
    (path / "c" / "1" / "0").write_bytes(b"not zstd")
    with pytest.raises(ImageError, match=r"other\.zarr.*block Y 12:24, X 0:12"):
        read_image(path).read()


def test_axes_of_a_volume_can_be_given_anew() -> None:
    stack = as_volume(np.zeros((3, 24, 36), np.uint8), "ZYX", scale=(2, 1, 1))
    movie = as_volume(stack, "TYX")
    assert (movie.axes.names, movie.axes.scale) == ("TYX", (1, 1, 1))  # a depth is no interval
    with pytest.raises(AxesError, match="3 dimensions"):
        as_volume(stack, "YX")


def test_scale_and_units_follow_their_letters() -> None:
    stack = as_volume(
        np.zeros((3, 24, 36), np.uint8), "ZYX", scale=(2, 0.5, 0.25), units=("nm", "um", "mm")
    )
    turned = as_volume(stack, "XZY").axes
    assert (turned.scale, turned.units) == ((0.25, 2, 0.5), ("mm", "nm", "um"))
    movie = as_volume(stack, "TYX").axes
    assert (movie.scale, movie.units) == ((1, 0.5, 0.25), ("pixel", "um", "mm"))


def test_four_channels_of_named_axes_are_not_taken_for_colours() -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    assert as_volume(picture).rgb
    assert (as_volume(picture, "YXC").rgb, as_volume(picture, "YXC").info.channels) == (False, 4)
    assert not as_volume(np.zeros((2, 64, 64, 4), np.uint8), "ZYXC").rgb
    assert as_volume(picture[..., :3], "YXC").rgb
    assert as_volume(picture, "YXC", rgb=True).rgb


def test_a_tensor_is_refused_by_name() -> None:
    import torch

    with pytest.raises(ImageError, match=r"torch\.Tensor .*pass a numpy.*\.cpu\(\)\.numpy\(\)"):
        as_volume(torch.zeros(8, 8))


class _Broken:
    """A chunked array of which no block can be read."""

    shape, dtype, chunks = (1000, 1000), np.dtype("u1"), (10, 10)

    def __init__(self, error: Exception) -> None:
        self.error, self.reads = error, 0

    def __getitem__(self, key: object) -> np.ndarray:
        self.reads += 1
        if self.reads > 1 and not isinstance(self.error, MemoryError):
            return np.zeros(1)  # every block alone is well: all of them are tried
        raise self.error


def test_too_little_memory_is_not_taken_for_damage() -> None:
    array = _Broken(MemoryError())
    with pytest.raises(ImageError, match="not enough memory") as caught:
        as_volume(array, name="huge").read()
    assert "damaged" not in str(caught.value)
    assert "huge" in str(caught.value)
    assert array.reads == 1


def test_the_failing_block_is_not_searched_for_ever() -> None:
    array = _Broken(OSError("bad sector"))
    with pytest.raises(ImageError, match="bad sector"):
        as_volume(array).read()
    assert array.reads <= 65


def test_the_blocks_of_a_damaged_array_are_not_listed() -> None:
    array = _Broken(OSError("bad sector"))
    array.shape = (10**14, 10**14)
    with pytest.raises(ImageError, match="bad sector"):
        as_volume(array).read()
    assert array.reads <= 65


def test_blocks_that_a_region_touches() -> None:
    def touched(size: int | tuple[int, ...], wanted: slice | int) -> list[tuple[int, int]]:
        return [(block.start, block.stop) for block in _blocks(size, 10, wanted)]

    for size in (4, (4, 4, 2)):  # as Zarr and as dask say it
        assert touched(size, slice(None)) == [(0, 4), (4, 8), (8, 10)]
        assert touched(size, slice(4, 8)) == [(4, 8)]
        assert touched(size, slice(3, 5)) == [(0, 4), (4, 8)]
        assert touched(size, 3) == [(0, 4)]
        assert touched(size, -1) == touched(size, 9) == [(8, 10)]
