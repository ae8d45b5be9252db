"""``unet-studio refine`` as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from unet_studio.models.files import read_card


@pytest.fixture
def files(tmp_path):
    """A stack of frames with bright disks, and strokes on it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    truth = np.stack([np.hypot(y - 20 - 3 * i, x - 30) < 10 for i in range(8)])
    image = (60 + 90 * truth + rng.normal(0, 8, truth.shape)).clip(0, 255).astype(np.uint8)
    labels = np.zeros(truth.shape, np.uint8)
    for start in (2, 22, 42):
        labels[:, 2:4, start : start + 15] = 1
    for i in range(8):
        for offset in (-6, 0, 6):
            labels[i, 19 + 3 * i + offset : 21 + 3 * i + offset, 26:35] = 2
    tifffile.imwrite(tmp_path / "movie.tif", image, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "strokes.tif", labels)
    return tmp_path


QUICK = ("--axes", "TYX", "--model", "random:unet-tiny", "--steps")


def test_strokes_become_a_model_file_with_a_report(files, unet_studio):
    output, report = files / "new.safetensors", files / "new.json"
    ended = unet_studio(
        "refine", files / "movie.tif", files / "strokes.tif", "-o", output, *QUICK, 40,
        "--report", report,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "better: " in ended.out
    assert str(output) in ended.out
    card = read_card(output)
    assert card.name == "new"
    assert card.training["refined"]["steps"] == 40
    content = json.loads(report.read_text())
    assert content["refined"]["verdict"]["finding"] == "better"
    assert len(content["curve"]) == 40
    segmented = unet_studio(
        "segment", files / "movie.tif", "-m", output, "-o", files / "out", "--axes", "TYX"
    )
    assert segmented.code == 0, segmented.err


def test_the_result_that_strokes_correct_may_be_named(files, unet_studio):
    first, second, other = (files / f"{n}.safetensors" for n in ("first", "second", "other"))
    given = (files / "movie.tif", files / "strokes.tif")
    unet_studio("refine", *given, "-o", first, *QUICK, 3, "--accept")
    ended = unet_studio("refine", *given, "-o", second, *QUICK, 3, "--accept", "--corrects", first)
    assert ended.code == 0, ended.err
    assert read_card(second).training["refined"]["corrects"] == "first"
    ended = unet_studio(
        "refine", *given, "-o", other, *QUICK, 3, "--classes", "disk", "--corrects", first
    )
    assert ended.code == 1
    assert "their classes differ" in " ".join(ended.err.split())
    assert not other.exists()


def test_F89_a_worse_model_does_not_get_the_name(files, unet_studio):
    labels = files / "strokes.tif"
    good = files / "good.safetensors"
    unet_studio("refine", files / "movie.tif", labels, "-o", good, *QUICK, 40)
    painted = tifffile.imread(labels)
    rng = np.random.default_rng(0)
    tifffile.imwrite(
        files / "wrong.tif",
        np.where(painted, rng.integers(1, 3, painted.shape), 0).astype(np.uint8),
    )
    output = files / "worse.safetensors"
    ended = unet_studio(
        "refine", files / "movie.tif", files / "wrong.tif", "-o", output, "--axes", "TYX",
        "-m", good, "--steps", 5,
    )  # fmt: skip
    assert ended.code == 2, ended.out
    assert not output.exists()
    assert (files / "worse.candidate.safetensors").is_file()
    assert "is worse" in ended.err


def test_an_existing_model_is_never_replaced(files, unet_studio):
    output = files / "mine.safetensors"
    output.write_bytes(b"mine")
    ended = unet_studio("refine", files / "movie.tif", files / "strokes.tif", "-o", output)
    assert ended.code == 1
    assert "exists and stays as it is" in ended.err
    assert output.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("movie.tif", "-o", "n.safetensors"), "IMAGE LABELS"),
        (("movie.tif", "strokes.tif", "-o", "n.pt"), "should end in .safetensors"),
        (("movie.tif", "nothing.tif", "-o", "n.safetensors", *QUICK, 1), "nothing.tif"),
    ],
)
def test_what_can_not_work_is_said_at_once(files, unet_studio, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    ended = unet_studio("refine", *arguments)
    assert ended.code == 1
    assert message in " ".join(ended.err.split())
