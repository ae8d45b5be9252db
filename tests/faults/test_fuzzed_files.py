"""S04, S11: whatever bytes a file holds, only our own errors come out, and text stays text.

Valid files are damaged at random: bytes flipped, cut off, put in, repeated. Bytes made
from nothing rarely get past the first check of a reader.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unet_studio import load_recipe, read_image
from unet_studio.batch.manifest import MANIFEST, append_line, read_manifest
from unet_studio.errors import ImageError, UNetStudioError
from unet_studio.images.records import outputs_of
from unet_studio.images.zarr_marker import is_complete
from unet_studio.models.archives import open_package
from unet_studio.models.card import ModelCard
from unet_studio.models.files import read_model_file, verify_file
from unet_studio.models.foreign.containers import read_weights
from unet_studio.models.zoo.yaml import read_yaml


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that were once these: a few edits, most of them near the start."""
    near = st.integers(0, min(len(content), 400) - 1)
    place = near | st.integers(0, len(content) - 1)
    edit = st.tuples(
        st.sampled_from(["set", "cut", "insert", "repeat"]), place,
        st.binary(min_size=1, max_size=8) | st.sampled_from([b"\0" * 8, b"\xff" * 8]),
    )  # fmt: skip

    def apply(edits) -> bytes:
        data = bytearray(content)
        for kind, at, new in edits:
            if kind == "set":
                data[at : at + len(new)] = new
            elif kind == "insert":
                data[at:at] = new
            elif kind == "repeat":
                data[at:at] = data[at : at + 100]
            else:
                del data[at : at + 40 * len(new)]
        return bytes(data)

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def model_file() -> bytes:
    from safetensors.torch import save

    card = ModelCard(
        name="t", architecture="unet", in_channels=1, representation="binary",
        options={"widths": [2, 4]},
    )  # fmt: skip
    raw = save({"w": torch.ones(4)}, {"unet_studio_card": card.model_dump_json()})
    return bytes(raw)


def checkpoint(*, new: bool) -> bytes:
    stream = io.BytesIO()
    torch.save({"a.weight": torch.ones(2, 2)}, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


def package() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rdf.yaml", "type: model\nname: x\n")
        archive.writestr("weights.pt", b"x" * 200)
    return stream.getvalue()


def tiff() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((8, 8), np.uint8), ome=True, metadata={"axes": "YX"})
    return stream.getvalue()


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def nifti() -> bytes:
    import nibabel

    return nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes()


def zarr_image() -> dict[str, bytes]:
    """An OME-Zarr image of one level, file by file."""
    from unet_studio.axes import Axes
    from unet_studio.images.writers import write_labels

    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "a.ome.zarr"
        write_labels(np.ones((8, 8), np.uint8), Axes("YX"), path)
        return {str(p.relative_to(made)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


ZARR = zarr_image()


def read_zarr(path: Path) -> None:
    """Read the image of which this is one of the files; the others are as they should be."""
    root = next(p for p in path.parents if p.name == "a.ome.zarr")
    for name, content in ZARR.items():
        target = root.parent / name
        if target != path and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    read_pixels(root)


def read_whole_package(path: Path) -> None:
    with open_package(path) as opened:
        for name in opened.names():
            opened.read(name, 1 << 16)


def read_pixels(path: Path) -> None:
    read_image(path, axes=None).read()


READERS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "model file": ("a.safetensors", model_file(), read_model_file),
    "model file, checked": ("a.safetensors", model_file(), verify_file),
    "weights, zip": ("a.pt", checkpoint(new=True), read_weights),
    "weights, legacy": ("a.pt", checkpoint(new=False), read_weights),
    "package": ("a.zip", package(), read_whole_package),
    "description": (
        "rdf.yaml", b"type: model\nname: x\ntags: [a, &b {c: 1}, *b]\nsize: 1e3\n",
        lambda path: read_yaml(path.read_bytes(), "rdf.yaml"),
    ),
    "recipe": (
        "recipe.toml", b'model = "nuclei"\n[tiling]\ntile = 512\n[objects]\nmethod="argmax"\n',
        load_recipe,
    ),
    "manifest": (
        MANIFEST, b'{"event": "item", "state": "done"}\n{"event": "end"}\n',
        lambda path: list(read_manifest(path.parent)),
    ),
    "run record": (
        "a.tif.json", json.dumps({"outputs": ["a.tif"], "versions": {}}).encode(), outputs_of
    ),
    "TIFF": ("a.tif", tiff(), read_pixels),
    "PNG": ("a.png", png(), read_pixels),
    "NIfTI": ("a.nii", nifti(), read_pixels),
    "OME-Zarr": ("a.ome.zarr/zarr.json", ZARR["a.ome.zarr/zarr.json"], read_zarr),
    "OME-Zarr, array": ("a.ome.zarr/0/zarr.json", ZARR["a.ome.zarr/0/zarr.json"], read_zarr),
    "NIfTI, packed": ("a.nii.gz", gzip.compress(nifti(), mtime=0), read_pixels),
}  # fmt: skip


def fuzz(kind: str, folder: Path, examples: int) -> None:
    name, content, reader = READERS[kind]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    outcomes = []

    @settings(max_examples=examples, database=None)
    @given(damaged(content))
    def damage(data: bytes) -> None:
        path.write_bytes(data)
        try:
            reader(path)
        except UNetStudioError as error:
            outcomes.append(str(error).strip())
        else:
            outcomes.append("read")

    path.write_bytes(content)
    reader(path)  # what is damaged is worth damaging
    logging.disable()  # pytest would keep in memory what libraries say of ten thousand files
    try:
        damage()
    finally:
        logging.disable(logging.NOTSET)
    assert len(outcomes) >= examples
    assert all(outcomes), "an error has no words"


@pytest.mark.filterwarnings("ignore")  # libraries warn of what they doubt: that is no error
@pytest.mark.parametrize("kind", READERS)
def test_S04_of_damaged_bytes_only_our_own_errors_come_out(kind, tmp_path):
    fuzz(kind, tmp_path, 60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", READERS)
def test_S04_of_ten_thousand_damaged_files(kind, tmp_path):
    fuzz(kind, tmp_path, 10_000)


def header(text: bytes) -> bytes:
    """Return a model file whose header is this text."""
    return len(text).to_bytes(8, "little") + text


ENDLESS = header(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}')
DEEP = header(b'{"w": ' + b"[" * 99_999)
# What a reader's library raises for these is its own, and another one for each.
MADE = [
    ("model file", DEEP), ("model file, checked", DEEP), ("weights, zip", DEEP),
    ("model file", ENDLESS), ("model file, checked", ENDLESS), ("weights, zip", ENDLESS),
    ("recipe", b"a = " + b"[" * 2_000), ("recipe", b"tile = " + b"9" * 5_000),
    ("description", b"a: " + b"[" * 2_000), ("description", b"a: !!bool perhaps"),
    ("description", b"a: !!int ''"), ("description", b"a: !!float ''"),
    ("description", b"a: !!timestamp soon"),
    ("package", package().replace(b"rdf.yaml", b"\0df.yaml")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "content"), MADE, ids=range(len(MADE)))
def test_S04_files_made_to_confuse_a_reader(kind, content, tmp_path):
    name, _, reader = READERS[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UNetStudioError) as caught:
        reader(tmp_path / name)
    assert str(caught.value).strip()


def test_S04_a_record_without_end_is_of_nothing(tmp_path):
    path = tmp_path / "a.tif.json"
    path.write_bytes(b"[" * 99_999)
    assert not outputs_of(path)


# Of ten thousand damaged descriptions of an array, none is likely to be one of these.
LYING = [
    b"null", b"[]", b"{", b"[" * 99_999, b'{"node_type": "array"}',
    b'{"node_type": "array", "shape": [8, 8], "chunk_grid": {"configuration": '
    b'{"chunk_shape": [8, 0]}}}',
]  # fmt: skip


@pytest.mark.parametrize("content", LYING, ids=range(len(LYING)))
def test_S04_a_store_with_a_damaged_array_is_not_complete(content, tmp_path):
    array = tmp_path / "a.ome.zarr" / "0" / "zarr.json"
    array.parent.mkdir(parents=True)
    array.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.ome\.zarr is damaged"):
        read_zarr(array)
    assert not is_complete(tmp_path / "a.ome.zarr")


def test_S04_the_chunks_of_an_endless_array_are_not_listed(tmp_path):
    described = json.loads(ZARR["a.ome.zarr/0/zarr.json"])
    array = tmp_path / "a.ome.zarr" / "0" / "zarr.json"
    array.parent.mkdir(parents=True)
    array.write_text(json.dumps(described | {"shape": [10**14, 10**14]}))
    with pytest.raises(ImageError, match=r"chunk 0/c/0/1 is missing"):
        read_zarr(array)


def test_S04_a_manifest_goes_on_after_any_line(tmp_path):
    torn_lines = [b"\xff\xfe", b'{"event": "it', b"[1]\n", b"\0" * 9, b"[" * 99_999]
    for number, torn in enumerate(torn_lines):
        with (tmp_path / MANIFEST).open("ab") as stream:
            stream.write(torn)
        append_line(tmp_path, "item", number=number)
    assert [line["number"] for line in read_manifest(tmp_path)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("expression", ["$import('os').mkdir({!r})", "${{mkdir:{}}}", "%({})s"])
def test_S11_expressions_in_configurations_stay_text(expression, canary, tmp_path):
    text = expression.format(canary.path)
    values = read_yaml(f"type: model\nname: {json.dumps(text)}\n".encode(), "rdf.yaml")
    assert values["name"] == text
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"model = {json.dumps(text)}\n")
    with pytest.raises(UNetStudioError):
        from unet_studio import load_model

        load_model(load_recipe(recipe).model)
    card = ModelCard(
        name=text, architecture="unet", in_channels=1, representation="binary", citation=text
    )
    assert ModelCard.model_validate_json(card.model_dump_json()).citation == text
