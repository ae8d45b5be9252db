"""``unet-studio batch`` and recipes on the command line, on real files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from support.hashes import hashes
from unet_studio import load_recipe, read_image, run_batch, segment
from unet_studio.axes import Axes
from unet_studio.batch.manifest import append_line, read_manifest
from unet_studio.images.writers import write_array


def picture(shape=(40, 48), seed=1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def results(folder: Path) -> dict[str, str]:
    """What has to be the same after any number of interruptions: all but times."""
    return {n: h for n, h in hashes(folder).items() if not n.endswith((".json", ".jsonl"))}


@pytest.fixture
def recipe(tmp_path, tiny_model):
    path = tmp_path / "recipe.toml"
    path.write_text(f'model = "{tiny_model}"\n[objects]\nmethod = "components"\n')
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    tifffile.imwrite(folder / "a.tif", picture())
    Image.fromarray(picture(seed=2)).save(folder / "a.png")
    tifffile.imwrite(folder / "sub" / "ünï côde.tif", picture(seed=3))
    write_array(picture((4, 40, 48)), Axes("ZYX", (2, 1, 1)), folder / "sub" / "s.ome.zarr")
    return folder


def test_a_tree_of_images_gives_a_tree_of_results(unet_studio, images, recipe, tmp_path):
    before, out = hashes(images), tmp_path / "out"
    ended = unet_studio("batch", recipe, images, "-o", out, "--parquet")
    assert ended.code == 0, ended.err
    assert hashes(images) == before
    labels = {p.relative_to(out).as_posix() for p in out.rglob("*_labels.*")}
    assert {
        "a_tif_labels.tif", "a_png_labels.png", "sub/ünï côde_labels.tif",
        "sub/s_labels.ome.zarr",
    } <= labels  # fmt: skip
    found = tifffile.imread(out / "sub" / "ünï côde_labels.tif")
    expected = segment(images / "sub" / "ünï côde.tif", load_recipe(recipe).model)
    np.testing.assert_array_equal(found, expected.labels)

    rows = list(csv.DictReader((out / "objects.csv").read_text("utf-8").splitlines()))
    own = [row for row in rows if row["file"] == "sub/ünï côde.tif"]
    assert [int(r["label"]) for r in own] == list(range(1, found.max() + 1))
    assert [int(r["pixels"]) for r in own] == np.bincount(found.ravel())[1:].tolist()
    import pyarrow.parquet as parquet

    table = parquet.read_table(out / "objects.parquet")
    assert table["file"].to_pylist() == [row["file"] for row in rows]
    assert table["pixels"].to_pylist() == [int(row["pixels"]) for row in rows]
    events = [line["event"] for line in read_manifest(out)]
    assert events == ["started", *["item"] * 4, "ended"]


def test_complete_items_are_skipped_until_something_changes(unet_studio, images, recipe, tmp_path):
    out = tmp_path / "out"
    common = ("batch", recipe, images, "-o", out)
    assert "4 done, 0 complete already" in unet_studio(*common).out
    first = hashes(out)
    assert "0 done, 4 complete already" in unet_studio(*common).out
    assert {n: h for n, h in hashes(out).items() if n != "manifest.jsonl"} == {
        n: h for n, h in first.items() if n != "manifest.jsonl"
    }
    tifffile.imwrite(images / "a.tif", picture(seed=9))  # another input
    assert "1 done, 3 complete already" in unet_studio(*common).out
    (out / "a_png_labels.png").unlink()  # a lost result
    assert "1 done, 3 complete already" in unet_studio(*common).out
    next((out / "sub" / "s_labels.ome.zarr").glob("0/c/*/*/*")).unlink()  # a lost chunk
    assert "1 done, 3 complete already" in unet_studio(*common).out
    assert "4 done, 0 complete already" in unet_studio(*common, "--redo").out
    recipe.write_text(recipe.read_text() + "options = { min_size = 2 }\n")  # another recipe
    assert "4 done, 0 complete already" in unet_studio(*common).out


def test_F91_bad_files_are_reported_and_the_rest_is_done(
    unet_studio, images, recipe, tmp_path, fault_contract
):
    (images / "broken.tif").write_bytes(b"no image")
    (images / "empty.png").write_bytes(b"")
    (images / "gone.tif").symlink_to(tmp_path / "nothing.tif")
    tifffile.imwrite(images / "stack.tif", picture((5, 40, 48)))  # which axes?
    out, before = tmp_path / "out", hashes(images)
    ended = unet_studio("batch", recipe, images, "-o", out)
    fault_contract.assert_fault_contract(
        ended.err, before=before, now=hashes(images), code=(ended.code, 2)
    )
    assert "4 done, 0 complete already, 4 failed, of 8" in ended.out
    last = ended.err.strip().splitlines()[-1]
    assert all(n in last for n in ("broken.tif", "empty.png", "gone.tif", "stack.tif"))
    assert not [p for p in out.rglob("*") if ".partial" in p.name]
    assert not [
        p for p in out.rglob("*") if p.name.startswith(("broken", "empty", "gone", "stack"))
    ]
    reasons = {r["name"]: r["reason"] for r in read_manifest(out) if r.get("state") == "failed"}
    assert "0 bytes" in reasons["empty.png"]
    assert 'Put axes = "ZYX" at the top of the recipe' in reasons["stack.tif"]
    assert "--axes" not in reasons["stack.tif"], "the command has none"
    ended = unet_studio("batch", recipe, images, "-o", out, "--dry-run")
    assert 'axes = "ZYX"' in ended.err
    assert "--axes" not in ended.err
    recipe.write_text('axes = "ZYX"\n' + recipe.read_text())
    assert "1 done" in unet_studio("batch", recipe, images / "stack.tif", "-o", out).out


def test_a_dry_run_writes_nothing(unet_studio, images, recipe, tmp_path):
    out = tmp_path / "out"
    ended = unet_studio("batch", recipe, images, "-o", out, "--dry-run")
    assert ended.code == 0, ended.err
    assert not out.exists()
    assert str(out / "sub" / "s_labels.ome.zarr") in ended.out
    assert "Z 4 x Y 40 x X 48" in ended.out
    (images / "broken.tif").write_bytes(b"no image")
    ended = unet_studio("batch", recipe, images, "-o", out, "--dry-run")
    assert ended.code == 2
    assert "broken.tif" in ended.err
    assert "4 images to do, 1 that can not be done" in ended.out


def test_results_may_lie_beside_their_images(unet_studio, images, recipe):
    before = hashes(images)
    assert unet_studio("batch", recipe, images, "-o", images).code == 0
    assert unet_studio("batch", recipe, images, "-o", images).code == 0
    after = hashes(images)
    assert {n: after[n] for n in before} == before
    assert not [n for n in after if "labels_labels" in n]


def test_a_table_of_somebody_else_stays(unet_studio, images, recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "objects.csv").write_text("mine")
    ended = unet_studio("batch", recipe, images, "-o", tmp_path / "out")
    assert ended.code == 1
    assert (tmp_path / "out" / "objects.csv").read_text() == "mine"


def test_segment_api_and_batch_give_the_same_bytes(unet_studio, images, tmp_path, tiny_model):
    saved = tmp_path / "saved.toml"
    flags = ("-m", tiny_model, "--set", "min_size=2", "--quality", "fast", "--device", "cpu")
    arguments = ("segment", images / "a.tif", "-o", tmp_path / "s")
    ended = unet_studio(*arguments, *flags, "--save-recipe", saved)
    assert ended.code == 0, ended.err
    first = (tmp_path / "s" / "a_labels.tif").read_bytes()
    arguments = ("segment", images / "a.tif", "-o", tmp_path / "t", "--recipe", saved)
    assert unet_studio(*arguments).code == 0
    assert unet_studio("batch", saved, images / "a.tif", "-o", tmp_path / "u").code == 0
    report = run_batch(load_recipe(saved), [images / "a.tif"], tmp_path / "v")
    assert report.ok
    for folder in "tuv":
        assert (tmp_path / folder / "a_labels.tif").read_bytes() == first
    ended = unet_studio(*arguments, "--quality", "fast")
    assert ended.code == 1
    assert "--quality and --recipe" in ended.err


def test_a_recipe_is_checked_and_shown(unet_studio, recipe, tmp_path):
    ended = unet_studio("recipe", recipe)
    assert ended.code == 0
    assert 'precision = "auto"' in ended.out
    (tmp_path / "bad.toml").write_text('model = "m"\n[tiling]\ntil = 1\n')
    ended = unet_studio("recipe", tmp_path / "bad.toml")
    assert ended.code == 1
    assert "tiling.til (line 3)" in ended.err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('[objects]\nmethod = "components"\noptions = { min_sise = 3 }\n', "'min_size' is meant"),
        ('[objects]\nmethod = "watershed"\n', "'watershed' can not be used with the model"),
    ],
)
def test_a_recipe_that_fits_no_image_is_refused_once(
    unet_studio, images, tiny_model, tmp_path, settings, said
):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(f'model = "{tiny_model}"\n{settings}')
    batch = ("batch", recipe, images, "-o", out)
    for command in (("recipe", recipe), (*batch, "--dry-run"), batch):
        ended = unet_studio(*command)
        assert ended.code == 1, command
        assert ended.err.count(said) == 1, ended.err
    assert not list(tmp_path.rglob("*_labels*"))


def test_a_file_that_vanishes_fails_alone(images, recipe, tmp_path):
    for number in range(8):  # more than are read ahead
        tifffile.imwrite(images / "sub" / f"z{number}.tif", picture(seed=number))
    gone = images / "sub" / "z7.tif"
    report = run_batch(
        recipe, [images], tmp_path / "out", on_result=lambda *_: gone.unlink(missing_ok=True)
    )
    assert report.done == 11
    assert [r.name for r in report.failed] == ["sub/z7.tif"]


def test_a_folder_that_can_not_be_made_fails_its_images_alone(images, recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("a file in the way")
    report = run_batch(recipe, [images], tmp_path / "out")
    assert (report.done, len(report.failed)) == (2, 2)
    assert all("could not be written" in r.reason for r in report.failed)
    assert (tmp_path / "out" / "sub").read_text() == "a file in the way"


def test_P20_a_torn_line_of_the_manifest_is_left_alone(tmp_path):
    append_line(tmp_path, "started", items=1)
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "it')
    append_line(tmp_path, "ended")
    assert [line["event"] for line in read_manifest(tmp_path)] == ["started", "ended"]


def test_all_fields_of_a_plate_are_written(unet_studio, recipe, tmp_path):
    import zarr

    store = tmp_path / "p.ome.zarr"
    plate = zarr.open_group(str(store), mode="w", zarr_format=3)
    plate.attrs["ome"] = {"plate": {"wells": [{"path": "A/1"}]}}
    plate.create_group("A/1").attrs["ome"] = {"well": {"images": [{"path": "0"}]}}
    write_array(picture(), Axes("YX"), tmp_path / "i.ome.zarr")
    (tmp_path / "i.ome.zarr").rename(store / "A" / "1" / "0")
    ended = unet_studio("batch", recipe, store, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    labels = tmp_path / "out" / "p" / "A" / "1" / "0_labels.zarr"
    assert read_image(labels).info.shape == (40, 48)
    record = json.loads((labels.parent / "0_labels.zarr.json").read_text())
    assert record["batch"]["item"] == "p/A/1/0.zarr"
