"""Names of results: no two inputs share one, and nothing of the user has one."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_studio.images.writers import (
    beside_labels,
    labels_path,
    labels_paths,
    output_path,
    record_path,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", "a_labels.tif"),
        ("a.b.OME.TIFF", "a.b_labels.OME.TIFF"),
        ("a.jpg", "a_labels.png"),
        ("a.png", "a_labels.png"),
        ("a.nii.gz", "a_labels.nii.gz"),
        ("a.ome.zarr", "a_labels.ome.zarr"),
        ("-weird ü.tif", "-weird ü_labels.tif"),
        ("field", "field_labels.ome.zarr"),
    ],
)
def test_names_of_results(name: str, expected: str) -> None:
    assert labels_path(Path("in") / name, "out") == Path("out") / expected
    assert output_path(name, "out", "probabilities").name == expected.replace(
        "_labels", "_probabilities"
    )


def _every_output(target: Path) -> set[str]:
    files = [
        target, target.with_name(target.name + ".tif"), beside_labels(target, "objects", ".csv"),
        beside_labels(target, "probabilities"),
    ]  # fmt: skip
    return {name.casefold() for f in files for name in (f.name, record_path(f).name)}


def test_no_two_inputs_share_a_result() -> None:
    inputs = ["a.png", "a.jpg", "a.tif", "a.ome.tif", "A.TIF", "x/b.png", "y/b.png", "c_png.tif",
              "c.png", "c.tif", "d.nii", "d.nii.gz", "alone.png"]  # fmt: skip
    paths = labels_paths(inputs, "out")
    assert {str(k): p.name for k, p in paths.items()} == {
        "a.png": "a_png_labels.png",
        "a.jpg": "a_jpg_labels.png",
        "a.tif": "a_tif_labels.tif",
        "a.ome.tif": "a_ome_tif_labels.ome.tif",
        "A.TIF": "A_tif_2_labels.TIF",
        "x/b.png": "b_labels.png",
        "y/b.png": "b_2_labels.png",
        "c_png.tif": "c_png_labels.tif",
        "c.png": "c_png_2_labels.png",
        "c.tif": "c_tif_labels.tif",
        "d.nii": "d_nii_labels.nii",
        "d.nii.gz": "d_nii_gz_labels.nii.gz",
        "alone.png": "alone_labels.png",
    }
    assert len(labels_paths(["a.png", "a.png"], "out")) == 1


@given(st.lists(st.text("aAü._-", min_size=1, max_size=4), max_size=8), st.randoms())
def test_names_of_results_are_never_shared(stems: list[str], random: Random) -> None:
    suffixes = (".png", ".jpg", ".JPEG", ".tif", ".TIFF", ".nii", ".nii.gz", ".zarr", "")
    inputs = [Path(stem + random.choice(suffixes)) for stem in stems]
    paths = labels_paths(inputs, "out")
    assert list(paths) == list(dict.fromkeys(inputs))
    outputs = [_every_output(p) for p in paths.values()]
    assert len(set().union(*outputs)) == sum(map(len, outputs))
    assert all("_labels" in p.name for p in paths.values())


def test_a_file_of_the_user_with_a_results_name_stays(tmp_path):
    """Hand-made labels beside the image: no record lists them, so they are not ours."""
    (tmp_path / "a_labels.tif").write_bytes(b"by hand")
    target = labels_paths(["a.tif"], tmp_path)[Path("a.tif")]
    assert target == tmp_path / "a_2_labels.tif"
    record = {"versions": {"napari-unet-studio": "0.1.0"}, "outputs": ["a_labels.tif"]}
    (tmp_path / "a_labels.tif.json").write_text(json.dumps(record))
    assert labels_paths(["a.tif"], tmp_path)[Path("a.tif")] == tmp_path / "a_labels.tif"
