"""``unet-studio evaluate`` on real files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image
from typer.testing import CliRunner

from unet_studio.cli.evaluate import evaluate_command

app = typer.Typer()
app.command()(evaluate_command)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})


def squares(count: int) -> np.ndarray:
    image = np.zeros((20, 20 * count), np.uint16)
    for i in range(count):
        image[5:15, 20 * i + 5 : 20 * i + 15] = i + 1
    return image


@pytest.fixture
def folders(tmp_path):
    labels, truth = tmp_path / "labels", tmp_path / "truth"
    labels.mkdir()
    truth.mkdir()
    tifffile.imwrite(labels / "a_labels.tif", squares(3), compression="lzw")
    Image.fromarray(squares(4)[:, :60]).save(truth / "a.png")
    tifffile.imwrite(labels / "b_labels.ome.tif", squares(2))
    second = squares(2)
    second[second == 2] = 0
    tifffile.imwrite(truth / "b.tif", second)
    (labels / "run.json").write_text("{}")
    return labels, truth


def test_two_files(folders):
    labels, truth = folders
    result = run(labels / "a_labels.tif", truth / "a.png")
    assert result.exit_code == 0, result.output
    assert "1.000" in result.output
    assert "…" not in result.output, "the table does not fit 80 columns"


def test_folders_are_paired_by_name_and_pooled(folders, tmp_path):
    labels, truth = folders
    result = run(labels, truth, "--json", tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["images"].keys() == {"a", "b"}
    assert scores["images"]["b"]["precision"] == 0.5
    assert scores["together"]["objects"] == 5
    assert scores["together"]["ap"]["0.5"] == 4 / 5
    assert scores["failed"] == {}
    assert "All 2 together" in result.output


def test_what_fails_is_named_and_the_rest_is_done(folders, tmp_path):
    labels, truth = folders
    (labels / "c_labels.tif").write_bytes(b"not an image")
    tifffile.imwrite(truth / "c.tif", squares(1))
    tifffile.imwrite(truth / "lonely.tif", squares(1))
    tifffile.imwrite(labels / "d.tif", squares(1))
    tifffile.imwrite(truth / "d.tif", squares(2))
    result = run(labels, truth, "--json", tmp_path / "scores.json")
    assert result.exit_code == 2
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["failed"].keys() == {"c", "d", "lonely"}
    assert "(20, 20)" in scores["failed"]["d"]
    assert "no partner" in scores["failed"]["lonely"]
    assert scores["images"].keys() == {"a", "b"}
    assert "2 compared, 3 failed" in result.output


@pytest.mark.parametrize("missing", ["labels", "truth"])
def test_a_missing_path_can_not_start(unet_studio, folders, tmp_path, missing):
    paths = {"labels": folders[0], "truth": folders[1], missing: tmp_path / "nowhere"}
    ended = unet_studio("evaluate", paths["labels"], paths["truth"])
    assert ended.code == 1
    assert "nowhere" in ended.err


def test_a_file_against_a_folder_can_not_start(unet_studio, folders):
    ended = unet_studio("evaluate", folders[0] / "a_labels.tif", folders[1])
    assert ended.code == 1
    assert "is a folder" in ended.err


def test_folders_without_a_common_name_can_not_start(unet_studio, folders, tmp_path):
    (tmp_path / "other").mkdir()
    tifffile.imwrite(tmp_path / "other" / "x.tif", squares(1))
    ended = unet_studio("evaluate", tmp_path / "other", folders[1])
    assert ended.code == 1
    assert "Check the two folders" in ended.err


def test_two_files_of_one_name_are_not_mixed_up(unet_studio, folders):
    labels, truth = folders
    tifffile.imwrite(labels / "a.tif", squares(3))
    ended = unet_studio("evaluate", labels, truth)
    assert ended.code == 1
    assert "a_labels.tif" in ended.err


def test_classes(folders, tmp_path):
    labels, truth = folders
    result = run(
        labels / "a_labels.tif", truth / "a.png", "--classes", "--json", tmp_path / "s.json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "s.json").read_text())["together"]["2"]["dice"] == 1


def test_a_stack_without_named_axes_is_compared(tmp_path):
    stack = np.stack([squares(2)] * 5)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack)
    assert run(tmp_path / "a.tif", tmp_path / "b.tif").exit_code == 0


def test_a_colour_picture_is_not_labels(tmp_path):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    result = run(tmp_path / "a.png", tmp_path / "a.png")
    assert result.exit_code == 2
    assert "3 channels" in result.output


def test_scores_that_can_not_be_written_are_not_a_success(folders, tmp_path):
    (tmp_path / "s.json").mkdir()
    labels, truth = folders
    result = run(labels, truth, "--json", tmp_path / "s.json")
    assert result.exit_code == 2
    assert "s.json" in result.output


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_labels_in_colours_are_compared_by_number(unet_studio, tmp_path, suffix):
    labels = np.zeros((40, 40), np.uint8)
    labels[2:9, 2:9], labels[20:30, 20:30] = 1, 2
    colours = np.zeros((256, 3), np.uint8)
    colours[1], colours[2] = (255, 0, 0), (255, 0, 0)  # one colour: only the numbers differ
    if suffix == "png":
        image = Image.fromarray(labels).convert("P")
        image.putpalette(colours.ravel().tolist())
        image.save(tmp_path / "truth.png")
    else:
        colormap = colours.T.astype(np.uint16) * 257
        tifffile.imwrite(tmp_path / "truth.tif", labels, photometric="palette", colormap=colormap)
    Image.fromarray(labels).save(tmp_path / "found.png")
    ended = unet_studio(
        "evaluate", tmp_path / "found.png", tmp_path / f"truth.{suffix}", "--json",
        tmp_path / "s.json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    scores = json.loads((tmp_path / "s.json").read_text())["together"]
    assert (scores["truth"], scores["true_positives"]) == (2, 2)
