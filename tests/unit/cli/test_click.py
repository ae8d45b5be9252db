"""``unet-studio click`` as a user runs it, beside the same in Python."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from unet_studio import ClickSession, replay
from unet_studio.errors import ImageError
from unet_studio.models.store import list_models
from unet_studio.samples import read_sample


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("click") / "cells.tif"
    tifffile.imwrite(path, read_sample("nuclei_fluorescence")[:128, :128])
    return path


@pytest.fixture(scope="module")
def random_click_model(tmp_path_factory):
    from unet_studio.models.click_input import ClickInput
    from unet_studio.models.model import save_model
    from unet_studio.models.presets import new_model

    path = tmp_path_factory.mktemp("models") / "clicker.safetensors"
    clicks = ClickInput(edge=64)
    save_model(new_model("unet-tiny", in_channels=6, clicks=clicks, name="clicker", seed=3), path)
    return path


def in_python(image, model, groups, **options):
    session = ClickSession(image, model, **options)
    for group in groups:
        for position, positive in group:
            session.click(position, positive)
        session.commit()
    return session


def test_clicks_give_what_a_session_gives(cells, tmp_path, unet_studio):
    """With the bundled model, so that its card and weights are what is checked, too."""
    target, journal = tmp_path / "mask.tif", tmp_path / "done.jsonl"
    ended = unet_studio(
        "click", cells, "--at", "60,80", "--at", "62,80.5", "--not", "60,110", "-o", target,
        "--journal", journal,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "object 1: number 1, " in ended.out
    assert str(target) in ended.out
    clicks = [((60, 80), True), ((62, 80.5), True), ((60, 110), False)]
    session = in_python(cells, "clicks", [clicks])
    np.testing.assert_array_equal(tifffile.imread(target), session.labels)
    assert session.labels.any()
    assert journal.read_text() == session.journal
    again = tmp_path / "again.tif"
    assert unet_studio("click", cells, "--replay", journal, "-o", again).code == 0
    np.testing.assert_array_equal(tifffile.imread(again), session.labels)
    np.testing.assert_array_equal(replay(cells, journal).labels, session.labels)


def test_a_table_gives_many_objects_and_names_those_that_fail(
    cells, random_click_model, tmp_path, unet_studio
):
    table, target = tmp_path / "clicks.csv", tmp_path / "mask.tif"
    table.write_text(
        "object,X,Y,positive\na,80,60,1\nb,20,30,1\na,85,64,0\nout,900,3,1\nno,3,3,0\n"
    )
    ended = unet_studio("click", cells, "--clicks", table, "-m", random_click_model, "-o", target)
    assert ended.code == 2
    assert "object out: (3, 900) is outside the image" in ended.err.replace("\n", " ")
    assert "2 of 4 objects failed: out, no" in ended.err
    groups = [[((60, 80), True), ((64, 85), False)], [((30, 20), True)], [((3, 3), False)]]
    session = in_python(cells, random_click_model, groups)
    np.testing.assert_array_equal(tifffile.imread(target), session.labels)
    assert set(np.unique(session.labels)) >= {1, 2}


def test_points_that_napari_saved_and_labels_that_are_there(
    cells, random_click_model, tmp_path, unet_studio
):
    stack = np.stack([tifffile.imread(cells)] * 5)
    tifffile.imwrite(tmp_path / "stack.tif", stack, metadata={"axes": "ZYX"})
    before = np.zeros(stack.shape, np.uint16)
    before[0, :5, :5] = 7
    tifffile.imwrite(tmp_path / "before.tif", before)
    (tmp_path / "points.csv").write_text("index,axis-0,axis-1,axis-2\n0,1.0,60.5,80.25\n")
    ended = unet_studio(
        "click", tmp_path / "stack.tif", "--clicks", tmp_path / "points.csv", "-m",
        random_click_model, "-o", tmp_path / "mask.tif", "--labels", tmp_path / "before.tif",
        "--follow",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    session = ClickSession(tmp_path / "stack.tif", random_click_model, labels=before.copy())
    session.click((1, 60.5, 80.25))
    for _ in session.propagate():
        pass
    assert session.commit().id == 8
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask.tif"), session.labels)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Say where to click"),
        (["--at", "3,4", "--clicks", "x.csv"], "Say where to click"),
        (["--at", "3;4"], "'3;4' is no position"),
        (["--clicks", "nothing.csv"], "can not be read"),
        (["--at", "3,4", "-m", "nuclei"], "does not answer clicks"),
        (["--at", "3,4", "--policy", "mine"], "There is no policy 'mine'. Use one of: keep"),
        (["--at", "3,4", "--channels", "5"], "can not be shown to the click model"),
        (["--replay", "nothing.jsonl"], "can not be read"),
    ],
)
def test_what_can_not_be_done_is_said_and_nothing_written(
    arguments, words, cells, tmp_path, unet_studio
):
    ended = unet_studio("click", cells, *arguments, "-o", tmp_path / "mask.tif")
    assert ended.code == 1
    assert words in ended.err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_a_position_of_too_few_numbers_fails_its_object(
    cells, random_click_model, tmp_path, unet_studio
):
    ended = unet_studio(
        "click", cells, "--at", "3,4,5", "-m", random_click_model, "-o", tmp_path / "mask.tif"
    )
    assert ended.code == 2
    assert "one for each of Y, X" in ended.err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_stay(cells, tmp_path, unet_studio):
    kept = tmp_path / "mask.tif"
    kept.write_bytes(b"mine")
    for arguments in (["-o", kept], ["-o", tmp_path / "new.tif", "--journal", kept]):
        ended = unet_studio("click", cells, "--at", "60,80", *arguments)
        assert ended.code == 1
        assert "stays as it is" in ended.err
    assert kept.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["mask.tif"]


def test_segmenting_with_a_click_model_is_refused(cells, tmp_path, unet_studio):
    ended = unet_studio("segment", cells, "-m", "clicks", "-o", tmp_path)
    assert ended.code != 0
    assert "this model answers clicks; use Click" in ended.err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_models_say_which_of_them_answers_clicks(unet_studio):
    assert [m.name for m in list_models() if m.card.clicks] == ["clicks"]
    card = json.loads(unet_studio("models", "info", "clicks", "--json").out)
    assert card["clicks"]["edge"] == 160
    assert "clicks\n" in unet_studio("models", "info", "clicks").out


@pytest.mark.parametrize("name", ["propagate", "commit"])
def test_an_object_that_can_not_be_followed_or_kept_is_named_and_others_written(
    name, cells, random_click_model, tmp_path, unet_studio, monkeypatch
):
    stack = np.stack([tifffile.imread(cells)] * 5)
    tifffile.imwrite(tmp_path / "stack.tif", stack, metadata={"axes": "ZYX"})
    (tmp_path / "clicks.csv").write_text("object,Z,Y,X\na,1,60,80\nb,1,30,20\n")
    real, calls = getattr(ClickSession, name), []

    def failing(session, *arguments, **keywords):
        calls.append(name)
        if len(calls) == 1:
            raise ImageError("Slice 2 can not be read. Copy the file anew.")
        return real(session, *arguments, **keywords)

    monkeypatch.setattr(ClickSession, name, failing)
    target = tmp_path / "mask.tif"
    ended = unet_studio(
        "click", tmp_path / "stack.tif", "--clicks", tmp_path / "clicks.csv", "--follow",
        "-m", random_click_model, "-o", target,
    )  # fmt: skip
    assert ended.code == 2, ended.err
    said = ended.err.replace("\n", " ")
    assert "object a: Slice 2 can not be read. Copy the file anew." in said
    assert "1 of 2 objects failed: a" in said
    assert set(np.unique(tifffile.imread(target))) == {0, 1}


def test_F58_an_absent_gpu_is_said_once(cells, random_click_model, tmp_path, unet_studio):
    journal = tmp_path / "done.jsonl"
    options = "-m", random_click_model, "--device", "cuda:99"
    ended = unet_studio(
        "click", cells, "--at", "60,80", "--at", "62,80", "-o", tmp_path / "mask.tif",
        "--journal", journal, *options,
    )  # fmt: skip
    assert ended.err.count("the CPU is used instead") == 1
    ended = unet_studio("click", cells, "--replay", journal, "-o", tmp_path / "b.tif", *options)
    assert ended.err.count("the CPU is used instead") == 1
