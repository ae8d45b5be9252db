"""Files that are missing, damaged, lying or not images at all: one helpful message each."""

from __future__ import annotations

import gzip
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from unet_studio.errors import ImageError
from unet_studio.images import limits
from unet_studio.images.readers import read_image

RNG = np.random.default_rng(11)


def _refused(path: Path, *words: str, read: bool = False) -> str:
    """Open a file and expect one message with the file's name and the words."""
    with pytest.raises(ImageError) as caught:
        read_image(path).read() if read else read_image(path)
    message = str(caught.value)
    for word in (str(path), *words):  # always the file, and what to do
        assert word in message
    return message


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.nii", "a.nii.gz"])
def test_missing_empty_and_garbage_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    _refused(path, "There is no file", "spelling")
    path.touch()
    _refused(path, "is empty (0 bytes)", "again")
    path.write_bytes(RNG.bytes(5000))
    _refused(path, "could not be opened")
    path.write_text("<!DOCTYPE html><html><body>Please log in</body></html>" * 20)
    _refused(path, "web page", "Download")


def test_other_things_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "dangling.tif").symlink_to(tmp_path / "gone")
    _refused(tmp_path / "dangling.tif", "link")
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    with pytest.raises(ImageError, match=r"loop\.tif"):
        read_image(tmp_path / "loop.tif")
    os.mkfifo(tmp_path / "fifo.tif")
    _refused(tmp_path / "fifo.tif", "neither a file nor a folder")
    (tmp_path / "notes.docx").write_text("hello")
    _refused(tmp_path / "notes.docx", "format that is not known", ".ome.tif")
    (tmp_path / "file.zarr").write_text("hello")
    _refused(tmp_path / "file.zarr", "is a folder")
    _refused(tmp_path / "nowhere" / "a.tif", "nor is there a folder")


def test_folders_without_metadata(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "copy.ome.zarr" / "0").mkdir(parents=True)
    _refused(tmp_path / "folder", "without Zarr metadata", "Give the image files")
    _refused(tmp_path / "copy.ome.zarr", "no Zarr metadata", "Copy the whole folder")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("ome", [True, False])
def test_truncated_tiff(compression: str | None, share: float, ome: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    stack = RNG.integers(0, 60_000, (5, 100, 120), dtype=np.uint16)
    tifffile.imwrite(
        path,
        stack,
        compression=compression,
        metadata={"axes": "ZYX"},
        ome=ome,
        photometric="minisblack",
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(path, read=False)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".nii", ".nii.gz"])
def test_truncated_files_of_other_families(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    image = RNG.integers(0, 255, (60, 70), dtype=np.uint8)
    if suffix.startswith(".nii"):
        import nibabel

        nibabel.Nifti1Image(image[..., None], np.eye(4)).to_filename(path)
    else:
        Image.fromarray(image).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    _refused(path, read=True)


def _tiff_header(width: int, height: int, compression: int) -> bytes:
    """Return a little-endian TIFF with one tag directory and hardly any pixels."""
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 16),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 500),
    ]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + b"\0" * 4
    return head.ljust(200, b"\0") + b"\1" * 520


@pytest.mark.parametrize("compression", [1, 8])
def test_S21_tiff_of_720_bytes_that_asks_for_terabytes(compression: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    path.write_bytes(_tiff_header(200_000, 200_000, compression))
    assert path.stat().st_size == 720
    _refused(path, "74.5 GiB", "720 bytes")


MODULO = (
    '<StructuredAnnotations><XMLAnnotation ID="a" Namespace="openmicroscopy.org/omero/dimension/'
    'modulo"><Value><Modulo><ModuloAlongZ Start="0" End="300000000" Type="other"/></Modulo>'
    "</Value></XMLAnnotation></StructuredAnnotations></OME>"
)


@pytest.mark.parametrize(
    ("said", "lie"),
    [
        ('SizeZ="3"', 'SizeZ="300000000"'),
        ('PlaneCount="3"', 'PlaneCount="300000000"'),
        ("</OME>", MODULO),
    ],
)
def test_S21_ome_tiff_that_promises_planes_without_end(
    said: str, lie: str, tmp_path: Path
) -> None:
    """They would be listed, in gigabytes, before anything else is looked at."""
    path = tmp_path / "bomb.ome.tif"
    tifffile.imwrite(path, np.zeros((3, 32, 32), np.uint8), metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    assert said in text
    tifffile.tiffcomment(path, text.replace(said, lie).encode())
    _refused(path, "declares 300,000,000 planes", "again")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("first", [1, 120])
def test_S21_tiff_whose_list_of_pages_never_ends(first: int, tmp_path: Path) -> None:
    """tifffile looks for circles where it lists the first hundred pages at once, nowhere else."""
    path = tmp_path / "circle.tif"
    content = bytearray(_tiff_header(8, 8, 1))
    start, size, pages = len(content), 18, 150
    struct.pack_into("<I", content, 8 + 2 + 9 * 12, start)  # of the first page
    for number in range(1, pages + 1):
        following = start + size * (number if number < pages else first)
        content += struct.pack("<HHHIII", 1, 256, 4, 1, 8, following)
    path.write_bytes(content)
    _refused(path, "runs in a circle", "again")


def test_S21_png_that_asks_for_gigabytes(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    path = tmp_path / "bomb.png"
    for width, word in ((60_000, "more than 178956970 pixels"), (12_000, "MiB")):
        header = struct.pack(">IIBBBBB", width, width, 8, 0, 0, 0, 0)
        body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
        path.write_bytes(content)
        _refused(path, word)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_S21_nifti_that_asks_for_gigabytes(suffix: str, tmp_path: Path) -> None:
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((3000, 3000, 3000))
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    content = header.binaryblock + b"\0" * 100
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    _refused(path, "100.6 GiB")


def test_S21_zarr_chunk_of_a_terabyte(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zarr"
    zarr.create_array(path, shape=(2**20, 2**20), chunks=(2**20, 2**20), dtype="u1")
    _refused(path, "One chunk", "1.0 TiB")


def test_a_picture_larger_than_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 255, (600, 700), dtype=np.uint8)).save(path)
    monkeypatch.setattr(limits, "available_memory", lambda: 2**18)
    _refused(path, "410.2 KiB", "256.0 KiB are free", "OME-Zarr")


def test_ome_zarr_that_lost_an_array(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
    axes = [{"name": a, "type": "space"} for a in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    _refused(path, "lacks its array 0", "Copy")
    group.create_array("0", data=np.zeros((2, 8, 8)))
    _refused(path, "2 values of scale for 3 dimensions")
    (path / "zarr.json").write_text(json.dumps({"node_type": "nonsense"}))
    _refused(path, "could not be opened as OME-Zarr")


def test_ome_tiff_whose_other_files_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    stack = RNG.integers(0, 255, (3, 32, 32), dtype=np.uint8)
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    single = '<TiffData IFD="0" PlaneCount="3"/>'
    assert single in text
    elsewhere = '<TiffData IFD="0" FirstZ="2" PlaneCount="1"><UUID FileName="b.ome.tif">urn:uuid:2'
    split = f'<TiffData IFD="0" PlaneCount="2"/>{elsewhere}</UUID></TiffData>'
    tifffile.tiffcomment(path, text.replace(single, split).encode())
    _refused(path, "planes are missing", "Copy all its files")


def test_no_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    stack = RNG.integers(0, 255, (3, 64, 64), dtype=np.uint8)
    tifffile.imwrite(
        path, stack, compression="zlib", metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no /proc on this system")
    read_image(path).read()  # the first time, libraries may open files of their own
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        read_image(path).read({"Z": 1})
    assert len(list(descriptors.iterdir())) == before
