"""What a batch writes beside labels: pictures, sheets, labels inside OME-Zarrs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from support.hashes import hashes
from unet_studio import read_image, run_batch
from unet_studio.axes import Axes
from unet_studio.batch.manifest import read_manifest
from unet_studio.batch.overlays import overlay_picture
from unet_studio.errors import RecipeError
from unet_studio.images.volume import Volume
from unet_studio.images.writers import write_array, write_labels
from unet_studio.recipe import Recipe

RECIPE = Recipe(model="random:unet-tiny", precision="float32", backend="torch", device="cpu")


def picture(seed=0, shape=(40, 48)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", picture())
    tifffile.imwrite(folder / "sub" / "b.tif", picture(1))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


# -- pictures -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "shape", "seen"),
    [
        ("YX", (40, 48), (200, 240)),
        ("YX", (3000, 1500), (256, 128)),
        ("YX", (1, 2000), (1, 256)),
        ("TCZYX", (2, 3, 5, 64, 64), (256, 256)),
        ("XYZ", (30, 300, 3), (256, 26)),
    ],
)
def test_a_picture_is_small_and_shows_the_objects(names, shape, seen):
    axes = Axes(names)
    image = picture(0, shape)
    kept = axes.without("C") if "C" in axes else axes
    labels = np.zeros([n for a, n in zip(names, shape, strict=True) if a != "C"], np.uint32)
    labels[...] = 70_000_000  # a table of colours up to this would not fit
    drawn = overlay_picture(Volume(image, axes), labels, kept)
    assert drawn.shape == (*seen, 3)
    plain = overlay_picture(Volume(image, axes), np.zeros_like(labels), kept)
    assert (np.ptp(plain.reshape(-1, 3).astype(int), axis=1) == 0).all() or "C" in names
    assert (drawn != plain).any()


def test_of_a_huge_image_the_middle_is_read():
    class Huge:
        shape, dtype, ndim = (200_000, 300_000), np.dtype(np.uint8), 2

        def __getitem__(self, key):
            wanted = [range(*k.indices(n)) for k, n in zip(key, self.shape, strict=True)]
            assert all(len(r) <= 4096 for r in wanted), "the whole image is read"
            return np.zeros([len(r) for r in wanted], np.uint8)

    axes = Axes("YX")
    assert overlay_picture(Volume(Huge(), axes), Huge(), axes).shape == (256, 256, 3)


def test_pictures_and_sheets_are_written_and_are_no_images(images, tmp_path):
    before = hashes(images)
    report = run_batch(RECIPE, [images], images, overlays=True)
    assert (report.done, len(report.failed)) == (2, 1)
    with Image.open(images / "sub" / "b_overlay.png") as overlay:
        assert overlay.size == (240, 200)
    with Image.open(images / "contact_sheet.png") as sheet:
        pixels = np.asarray(sheet).reshape(-1, 3)
        assert sheet.size[0] > 3 * 256
        assert len(np.unique(pixels, axis=0)) > 100
    again = run_batch(RECIPE, [images], images, overlays=True)
    assert (again.done, again.skipped, len(again.failed)) == (0, 2, 1), "its own pictures are read"
    (images / "a_overlay.png").unlink()  # a lost picture
    assert run_batch(RECIPE, [images], images, overlays=True).skipped == 2
    assert (images / "a_overlay.png").is_file()
    after = hashes(images)
    assert {name: after[name] for name in before} == before


def test_a_sheet_does_not_say_where_the_images_lie(tmp_path):
    """It is handed on: the same for folders of other names, though the reason names the file."""
    sheets = []
    for folder in ("a", "home of a person/plate 3"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "broken.tif").write_bytes(b"<html>log in</html>")
        report = run_batch(RECIPE, [tmp_path / folder], tmp_path / "out", overlays=True, redo=True)
        assert str(tmp_path / folder) in report.failed[0].reason
        sheets.append((tmp_path / "out" / "contact_sheet.png").read_bytes())
    assert sheets[0] == sheets[1]


@pytest.mark.parametrize("name", ["a_labels.tif", "a_objects.csv"])
@pytest.mark.parametrize("left", [0, 0.5, 0.9])
def test_what_was_cut_short_is_done_again(images, tmp_path, name, left):
    out = tmp_path / "out"
    run_batch(RECIPE, [images / "a.tif"], out)
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[: int(left * len(whole))])
    report = run_batch(RECIPE, [images / "a.tif"], out)
    assert (report.done, report.skipped) == (1, 0)
    assert (out / name).read_bytes() == whole
    assert run_batch(RECIPE, [images / "a.tif"], out).skipped == 1


def test_labels_corrected_by_hand_stay(images, tmp_path):
    out = tmp_path / "out"
    run_batch(RECIPE, [images / "a.tif"], out)
    corrected = np.zeros((40, 48), np.uint16)
    tifffile.imwrite(out / "a_labels.tif", corrected, compression="zlib")
    assert run_batch(RECIPE, [images / "a.tif"], out).skipped == 1
    assert not tifffile.imread(out / "a_labels.tif").any()


@pytest.mark.parametrize("left", [0, 30, 0.5])
def test_a_damaged_picture_is_drawn_anew(images, tmp_path, left):
    out = tmp_path / "out"
    run_batch(RECIPE, [images / "a.tif"], out, overlays=True)
    overlay, sheet = out / "a_overlay.png", out / "contact_sheet.png"
    whole, drawn = overlay.read_bytes(), sheet.read_bytes()
    overlay.write_bytes(whole[: left if left != 0.5 else len(whole) // 2])
    sheet.unlink()
    report = run_batch(RECIPE, [images / "a.tif"], out, overlays=True)
    assert (report.ok, report.skipped) == (True, 1)
    assert overlay.read_bytes() == whole
    assert sheet.read_bytes() == drawn


def test_a_picture_of_the_users_stays(images):
    mine = images / "a_overlay.png"
    Image.fromarray(picture(5)).save(mine)
    content = mine.read_bytes()
    report = run_batch(RECIPE, [images], images, overlays=True)
    assert report.done == 3
    assert mine.read_bytes() == content


def test_the_table_has_intensities_of_the_image(images, tmp_path):
    assert run_batch(RECIPE, [images / "a.tif"], tmp_path / "out").ok
    labels = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    with (tmp_path / "out" / "objects.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == labels.max() > 0
    image = picture()
    for row in rows:
        inside = image[labels == int(row["label"])]
        assert float(row["intensity_mean"]) == pytest.approx(inside.mean())
        assert float(row["intensity_max"]) == inside.max()


# -- labels inside OME-Zarrs ------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "zarrs" / "cells.ome.zarr"
    write_array(picture(2), Axes("YX", (0.5, 0.5), units=("micrometer",) * 2), path)
    tifffile.imwrite(path.parent / "other.tif", picture(3))
    return path


@pytest.mark.parametrize("through_disk", [False, True])
def test_labels_go_into_the_image_and_nothing_else_changes(store, tmp_path, through_disk):
    before, out = hashes(store), tmp_path / "out"

    def run(**changes):
        return run_batch(
            RECIPE, [store.parent], out, into_zarr="nuclei", overlays=True,
            through_disk=through_disk, **changes,
        )  # fmt: skip

    report = run()
    assert (report.done, report.problems) == (2, [])
    after = hashes(store)
    assert {name: after[name] for name in before} == before
    assert {n for n in set(after) - set(before) if not n.startswith("labels/nuclei/")} == {
        "labels/zarr.json"
    }
    root = zarr.open_group(str(store), mode="r")
    assert root["labels"].attrs["ome"]["labels"] == ["nuclei"]
    inside = read_image(store / "labels" / "nuclei")
    assert inside.axes.scale == (0.5, 0.5)
    ids = np.asarray(inside.array)
    plain = tmp_path / "plain"
    run_batch(RECIPE, [store], plain, through_disk=through_disk)
    np.testing.assert_array_equal(ids, read_image(plain / "cells_labels.ome.zarr").array[:])
    assert not (out / "cells_labels.ome.zarr").exists()
    with (out / "objects.csv").open() as stream:
        files = [row["file"] for row in csv.DictReader(stream)]
    assert files.count("cells.ome.zarr") == ids.max() > 0
    assert run().skipped == 2, "labels are no part of the image"
    # A chunk that is lost, or a list that lost the name: done again.
    next(store.glob("labels/nuclei/0/c/*/*")).unlink()
    assert run().done == 1
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"labels": ["x"]}}}
    (store / "labels" / "zarr.json").write_text(json.dumps(group))
    assert run().done == 1
    listed = json.loads((store / "labels" / "zarr.json").read_text())["attributes"]["ome"]
    assert listed["labels"] == ["x", "nuclei"]


def test_what_is_not_ours_in_the_image_stays(store, tmp_path):
    mine = store / "labels" / "nuclei"
    zarr.open_group(str(mine), mode="w").create_array("0", shape=(4,), dtype="u1")
    before = hashes(store)
    report = run_batch(RECIPE, [store], tmp_path / "out", into_zarr="nuclei")
    assert "was not written by this program" in report.failed[0].reason
    assert hashes(store) == before


def test_an_image_of_another_version_is_refused(tmp_path):
    path = tmp_path / "old.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", data=picture())
    axes = [{"name": n, "type": "space"} for n in "yx"]
    transform = [{"type": "scale", "scale": [1, 1]}]
    dataset = {"path": "0", "coordinateTransformations": transform}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    before = hashes(path)
    report = run_batch(RECIPE, [path], tmp_path / "out", into_zarr="nuclei")
    assert "OME-Zarr 0.4" in report.failed[0].reason
    assert hashes(path) == before
    assert run_batch(RECIPE, [path], tmp_path / "out").done == 1


@pytest.mark.parametrize("name", ["a/b", "..", "", " ", "zarr.json", ".hidden"])
def test_a_name_that_leads_elsewhere_is_refused(store, tmp_path, name):
    from unet_studio.batch.inside import check_name

    with pytest.raises(RecipeError, match="can not be the name"):
        check_name(name)


@pytest.mark.parametrize("through_disk", [False, True])
def test_labels_of_another_run_are_not_taken_for_its_own(store, tmp_path, through_disk):
    """Two recipes write under one name; each does its own again, and says what is there."""
    place, other = store / "labels" / "nuclei", RECIPE.model_copy(update={"flips": True})

    def run(recipe, out):
        return run_batch(
            recipe, [store], tmp_path / out, into_zarr="nuclei", through_disk=through_disk
        )

    assert (run(RECIPE, "a").done, run(other, "b").done) == (1, 1)
    assert (run(RECIPE, "a").done, run(RECIPE, "a").skipped) == (1, 1)
    volume = read_image(place)
    write_labels(np.zeros((40, 48), np.uint8), volume.axes, place)  # as `segment` does
    assert run(RECIPE, "a").done == 1
    assert read_image(place).array[:].any()


def test_its_own_labels_are_found_from_any_folder(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_batch(RECIPE, ["zarrs"], "out", into_zarr="nuclei").done == 2
    monkeypatch.chdir(tmp_path / "zarrs")
    assert run_batch(RECIPE, ["."], "../out", into_zarr="nuclei").skipped == 2
    lines = [line for line in read_manifest(tmp_path / "out") if line["event"] == "item"]
    assert len(lines) == 4
    for name in ("labels", "path", "table"):
        assert all(Path(line[name]).is_absolute() and Path(line[name]).exists() for line in lines)
    record = json.loads((tmp_path / "out" / "cells_labels.ome.zarr.json").read_text())
    assert record["input"] == str(store)
    assert record["labels_at"] == str(store / "labels" / "nuclei")


@pytest.mark.parametrize("whole_plate", [False, True])
def test_a_store_with_consolidated_metadata_is_refused(store, tmp_path, whole_plate):
    """Labels in it would be invisible to who reads the consolidated metadata."""
    root = store
    if whole_plate:  # of the group around the image
        root = tmp_path / "plate.zarr"
        plate = zarr.open_group(str(root), mode="w", zarr_format=3)
        plate.attrs["ome"] = {"plate": {"wells": [{"path": "A/1"}]}}
        plate.create_group("A/1").attrs["ome"] = {"well": {"images": [{"path": "0"}]}}
        store.rename(root / "A" / "1" / "0")
    with pytest.warns(zarr.errors.ZarrUserWarning):  # it is no part of Zarr 3 yet
        zarr.consolidate_metadata(str(root))
    before = hashes(root)
    report = run_batch(RECIPE, [root], tmp_path / "out", into_zarr="nuclei")
    assert "consolidated metadata" in report.failed[0].reason
    assert hashes(root) == before
    assert run_batch(RECIPE, [root], tmp_path / "out").done == 1


def test_kept_probabilities_have_to_be_whole(store, tmp_path):
    out = tmp_path / "out"
    options = {"into_zarr": "nuclei", "probabilities": True}
    assert run_batch(RECIPE, [store], out, **options).done == 1
    assert run_batch(RECIPE, [store], out, **options).skipped == 1
    next((out / "cells_probabilities.ome.zarr").glob("0/c/*/*/*")).unlink()
    assert run_batch(RECIPE, [store], out, **options).done == 1
    assert read_image(out / "cells_probabilities.ome.zarr").array[:].any()


# -- what is done again ---------------------------------------------------------


@pytest.mark.parametrize("into", ["", "nuclei"])
@pytest.mark.parametrize("through_disk", [False, True])
def test_nothing_of_an_older_result_stays_beside_new_labels(store, tmp_path, into, through_disk):
    out = tmp_path / "out"
    options = {"into_zarr": into, "through_disk": through_disk}
    assert run_batch(RECIPE, [store], out, overlays=True, probabilities=True, **options).ok
    assert (out / "cells_objects.csv").is_file()
    assert (out / "cells_overlay.png").is_file()
    plain = RECIPE.model_copy(update={"measure": False})
    assert run_batch(plain, [store], out, **options).done == 1
    labels = set() if into else {"cells_labels.ome.zarr"}
    assert {path.name for path in out.iterdir()} == labels | {
        "cells_labels.ome.zarr.json", "manifest.jsonl", "objects.csv", "contact_sheet.png",
        "contact_sheet.png.json",
    }  # fmt: skip


def test_what_fails_before_it_is_written_leaves_the_older_result(store, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert run_batch(RECIPE, [store], out, overlays=True).ok
    before = hashes(out)

    def fail(*_, **__):
        raise RuntimeError("no objects")

    monkeypatch.setattr("unet_studio.objects.run.run_objects_steps", fail)
    report = run_batch(RECIPE.model_copy(update={"measure": False}), [store], out)
    assert len(report.failed) == 1
    own = [name for name in before if name.startswith("cells_")]
    assert {name: hashes(out)[name] for name in own} == {name: before[name] for name in own}


@pytest.mark.parametrize("into", ["", "nuclei"])
def test_pictures_are_added_to_labels_that_are_complete(store, tmp_path, into):
    out, folder = tmp_path / "out", store.parent

    def run(overlays):
        report = run_batch(RECIPE, [folder], out, overlays=overlays, into_zarr=into)
        assert report.ok
        return report.done

    labels = (store / "labels" / into if into else out / "cells_labels.ome.zarr") / "zarr.json"
    assert run(False) == 2
    before = labels.stat().st_mtime_ns
    assert run(True) == 0
    expected = tmp_path / "expected"
    run_batch(RECIPE, [folder], expected, overlays=True)
    for name in ("cells_overlay.png", "other_overlay.png", "contact_sheet.png"):
        assert (out / name).read_bytes() == (expected / name).read_bytes()
    record = json.loads((out / "cells_labels.ome.zarr.json").read_text())
    assert "cells_overlay.png" in record["outputs"]
    (out / "cells_overlay.png").unlink()
    assert run(False) == run(True) == run(True) == run(False) == 0
    assert (out / "cells_overlay.png").is_file()
    assert labels.stat().st_mtime_ns == before
