"""``unet-studio segment --link``: a movie of real nuclei that drift, and go dark for a frame."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

from unet_studio import read_image
from unet_studio.samples import read_sample

DRIFT, FRAMES, DARK = 3, 5, 2


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """Path of a T, Y, X file whose window moves over real nuclei; one frame is empty."""
    image = read_sample("nuclei_fluorescence")
    frames = np.stack([image[20:148, DRIFT * t : DRIFT * t + 128] for t in range(FRAMES)])
    frames[DARK] = frames.min()
    path = tmp_path_factory.mktemp("movie") / "drift.tif"
    tifffile.imwrite(path, frames, metadata={"axes": "TYX"})
    return path


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def segment(unet_studio, movie, output, *more):
    ended = unet_studio("segment", movie, "--axes", "TYX", "-o", output, *more)
    assert ended.code == 0, ended.err
    labels = tifffile.imread(output / "drift_labels.tif")
    record = json.loads((output / "drift_labels.tif.json").read_text())
    return ended, labels, record


@pytest.mark.parametrize("switch", [("--link", "--max-gap", 1), ("--max-gap", 1)])
def test_nuclei_keep_their_numbers(unet_studio, movie, tmp_path, switch):
    ended, labels, record = segment(unet_studio, movie, tmp_path, *switch)
    assert labels.shape == (FRAMES, 128, 128)
    tracks = rows(tmp_path / "drift_tracks.csv")
    assert [int(r["label"]) for r in tracks] == list(range(1, labels.max() + 1))
    assert f"{labels.max()} linked objects" in ended.out

    # What lies in the first frame far enough from the edge is there to the end.
    inner = np.unique(labels[0, 30:-30, 40:-30])[1:]
    assert len(inner) >= 2
    for label in inner:
        (row, column), here = np.argwhere(labels[0] == label).mean(0).round().astype(int), labels
        found = {int(here[t, row, column - DRIFT * t]) for t in range(FRAMES) if t != DARK}
        assert found == {int(label)}
        track = tracks[label - 1]
        assert (track["first_frame"], track["last_frame"]) == ("0", str(FRAMES - 1))
        assert (track["frames"], track["parent"]) == (str(FRAMES - 1), "0")

    counts = record["objects"]["tracks"]
    assert counts["tracks"] == record["objects"]["count"] == labels.max()
    assert counts["bridged_frames"] >= len(inner)
    assert record["recipe"]["objects"]["link"] == {"min_overlap": 0.3, "max_gap": 1}
    assert "drift_tracks.csv" in record["outputs"]


def test_each_object_is_measured_in_each_of_its_frames(unet_studio, movie, tmp_path):
    _, labels, _ = segment(unet_studio, movie, tmp_path, "--link")
    measured = rows(tmp_path / "drift_objects.csv")
    pairs = {(int(r["frame"]), int(r["label"])) for r in measured}
    assert len(pairs) == len(measured)
    assert pairs == {(t, int(i)) for t in range(FRAMES) for i in np.unique(labels[t]) if i}


def test_without_the_switch_nothing_is_linked(unet_studio, movie, tmp_path):
    _, labels, record = segment(unet_studio, movie, tmp_path)
    assert not (tmp_path / "drift_tracks.csv").exists()
    assert "tracks" not in record["objects"]
    assert record["recipe"]["objects"]["link"] is None
    frames = [set(np.unique(frame)) - {0} for frame in labels]
    assert sum(map(len, frames)) == labels.max()


def test_linking_changes_numbers_only(unet_studio, movie, tmp_path):
    _, plain, _ = segment(unet_studio, movie, tmp_path / "plain")
    _, linked, _ = segment(unet_studio, movie, tmp_path / "linked", "--link")
    np.testing.assert_array_equal(plain > 0, linked > 0)
    for before, after in zip(plain, linked, strict=True):
        pairs = np.unique(np.stack([before, after]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == len(np.unique(before)) == len(np.unique(after))


@pytest.mark.parametrize(
    ("axes", "method", "why"),
    [("ZYX", "components", "no time axis"), ("TYX", "threshold", "makes a mask")],
)
def test_what_can_not_be_linked_is_segmented_with_a_warning(
    unet_studio, movie, tmp_path, axes, method, why
):
    ended = unet_studio(
        "segment", movie, "--axes", axes, "--method", method, "--link", "-o", tmp_path
    )
    assert ended.code == 0
    assert why in ended.err
    assert not (tmp_path / "drift_tracks.csv").exists()
    record = json.loads((tmp_path / "drift_labels.tif.json").read_text())
    assert any(why in warning for warning in record["warnings"])
    assert record["recipe"]["objects"]["link"] is None


@pytest.mark.parametrize(("option", "value"), [("--min-overlap", 2), ("--max-gap", -1)])
def test_options_out_of_range_are_named(unet_studio, movie, tmp_path, option, value):
    ended = unet_studio("segment", movie, "--link", option, value, "-o", tmp_path)
    assert ended.code == 1
    assert f"objects.link.{option[2:].replace('-', '_')}" in ended.err
    assert not list(tmp_path.iterdir())


def test_a_run_without_links_leaves_no_old_tracks(unet_studio, movie, tmp_path):
    segment(unet_studio, movie, tmp_path, "--link")
    assert (tmp_path / "drift_tracks.csv").exists()
    segment(unet_studio, movie, tmp_path)
    assert not (tmp_path / "drift_tracks.csv").exists()
    assert (tmp_path / "drift_objects.csv").exists()


def test_a_table_stays_where_new_labels_can_not_be_written(
    unet_studio, movie, tmp_path, monkeypatch
):
    segment(unet_studio, movie, tmp_path, "--link")
    tables = {p.name: p.read_bytes() for p in tmp_path.glob("*.csv")}
    labels = tmp_path / "drift_labels.tif"
    before = labels.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unet_studio.images.atomic.os.fsync", full)
    ended = unet_studio("segment", movie, "--axes", "TYX", "-o", tmp_path)
    assert ended.code == 2
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.csv")} == tables
    assert labels.read_bytes() == before


def test_through_the_disk_there_are_the_same_tracks(unet_studio, movie, tmp_path):
    _, labels, record = segment(unet_studio, movie, tmp_path / "memory", "--max-gap", 1)
    ended = unet_studio(
        "segment",
        movie,
        "--axes",
        "TYX",
        "--max-gap",
        1,
        "--through-disk",
        "-o",
        tmp_path / "disk",
    )
    assert ended.code == 0, ended.err
    store = tmp_path / "disk" / "drift_labels.ome.zarr"
    np.testing.assert_array_equal(read_image(store).read().squeeze(), labels)
    for table in ("drift_tracks.csv", "drift_objects.csv"):
        memory, disk = (tmp_path / where / table for where in ("memory", "disk"))
        assert memory.read_text() == disk.read_text()
    written = json.loads((tmp_path / "disk" / "drift_labels.ome.zarr.json").read_text())
    assert written["objects"] == record["objects"]
    assert {"births", "splits", "merges"} <= set(record["objects"]["tracks"])
