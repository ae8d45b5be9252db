"""What goes wrong while refining: named, survived, never adopted (F80 to F90)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from support import scenes
from support.steps import drained
from unet_studio.errors import AnnotationError, ModelError, RecipeError
from unet_studio.events import Trained, Warned
from unet_studio.images.volume import as_volume
from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model
from unet_studio.training.annotations import annotate, annotations_on
from unet_studio.training.fit_settings import FitSettings
from unet_studio.training.refine import refine, refine_steps
from unet_studio.training.session import open_session


@pytest.fixture(scope="module")
def pictures():
    image, truth = scenes.scene()
    return image, truth, scenes.strokes(truth)


def steps_of(image, painted, settings, latest=None, base=None):
    volume = as_volume(image, "TYX")
    return refine_steps(
        [(volume, annotations_on(volume, painted))],
        base or new_model("unet-tiny"),
        FitSettings(crop=48, **settings),
        latest=latest,
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [(0, "Nothing is annotated"), (1, "Only one class"), (7, "number 7, but the model")],
    ids=["F80 F82", "F81", "F85"],
)
def test_F80_F81_F82_F85_what_can_not_be_learned_from_is_refused_at_once(labels, message):
    image = np.zeros((32, 32), np.uint8)
    with pytest.raises(AnnotationError, match=message):
        refine(image, np.full(image.shape, labels, np.uint8), "random:unet-tiny", steps=1)


def test_F83_a_batch_without_annotations_is_skipped_and_counted(pictures, monkeypatch):
    from unet_studio.training import sampler

    image, _, painted = pictures
    real, calls = sampler.sparse_targets, []

    def sometimes(labels, mode, card):
        calls.append(True)
        step = (len(calls) - 1) // 24
        return real(labels * (step % 2), mode, card)

    monkeypatch.setattr(sampler, "sparse_targets", sometimes)
    events, refined = drained(steps_of(image, painted, {"steps": 6}))
    losses = [e.loss for e in events if isinstance(e, Trained)]
    assert np.isfinite(losses).all()
    assert refined.record["refined"]["skipped"] == losses.count(0.0) >= 2


def test_F84_a_loss_that_is_no_number_stops_and_the_last_good_weights_stay(pictures):
    image, _, painted = pictures
    events, refined = drained(steps_of(image, painted, {"steps": 60, "rate": 1e12}))
    assert refined.record["refined"]["ended"] == "diverged"
    assert any("no longer a number" in e.message for e in events if isinstance(e, Warned))
    assert all(bool(torch.isfinite(v).all()) for v in refined.model.network.state_dict().values())
    assert refined.verdict.finding != "better"


def test_F86_labels_of_another_image_are_refused(pictures):
    image, _, painted = pictures
    with pytest.raises(AnnotationError, match="Paint on a layer made for this image"):
        refine(image, painted[:, :-1], "random:unet-tiny", axes="TYX", steps=1)


def test_F87_labels_that_are_erased_while_training_end_it_without_loss(pictures):
    image, _, painted = pictures
    nothing = annotate(np.zeros_like(painted), "TYX")
    events, refined = drained(steps_of(image, painted, {"steps": 40}, lambda: [nothing]))
    assert refined.record["refined"]["ended"] == "erased"
    assert any("erased" in e.message for e in events if isinstance(e, Warned))
    assert refined.model.network is not None


def test_F87_painting_over_the_array_meanwhile_changes_nothing(pictures):
    image, _, painted = pictures
    results = []
    for erase in (False, True):
        mine = painted.copy()

        def at(event, mine=mine, erase=erase):
            if erase:
                mine[:] = 0

        results.append(drained(steps_of(image, mine, {"steps": 3}), at)[1])
    first, second = (r.model.network.state_dict() for r in results)
    assert all(torch.equal(v, second[n]) for n, v in first.items())


@pytest.fixture
def small_disk():
    """No file may grow beyond 20 kB, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_F88_a_full_disk_leaves_the_session_as_it_was(tmp_path, small_disk):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before[1], before[1]))
    base = new_model("unet-tiny")
    session = open_session(tmp_path / "s", base)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(ModelError, match="could not be written"):
        session.add(base, parent=0, adopt=True)
    assert [v.number for v in session.versions] == [0]
    assert session.load().sha256 == session.current.sha256
    assert sorted(p.name for p in session.folder.iterdir()) == ["0000.safetensors", "session.json"]


def test_F89_a_worse_model_is_kept_as_a_candidate_and_reverting_is_bit_identical(
    pictures, tmp_path
):
    image, _, painted = pictures
    good = refine(image, painted, "random:unet-tiny", axes="TYX", steps=30, crop=48, rate=3e-3)
    session = open_session(tmp_path / "s", good.model)
    # Half of what is learned from is wrong, all that is judged on is right.
    rng = np.random.default_rng(1)
    confused = np.where(painted > 0, rng.integers(1, 3, (8, 64, 64)), 0)
    bad = refine(
        image, confused, session.load(), axes="TYX", steps=15, crop=48, rate=3e-3, rehearse=0
    )
    assert bad.verdict.finding != "better"
    candidate = session.add(bad.model, parent=0, verdict=bad.verdict.as_dict(), adopt=False)
    assert session.current.number == 0
    assert candidate.verdict["finding"] == bad.verdict.finding
    before = session.path(0).read_bytes()
    session.adopt(candidate.number)  # somebody takes it all the same
    assert session.load().sha256 == candidate.sha256
    assert session.revert().number == 0
    assert session.path(0).read_bytes() == before
    restored = session.load().network.state_dict()
    assert all(torch.equal(v, restored[n]) for n, v in good.model.network.state_dict().items())


def test_F90_with_too_few_regions_there_is_no_validation_and_no_score(pictures):
    image, truth, _ = pictures
    painted = np.zeros((64, 64), np.uint8)
    painted[2:4, 2:10] = 1
    painted[truth[0]] = 2
    events = []
    refined = refine(
        image[0], painted, "random:unet-tiny", steps=3, crop=48, on_event=events.append
    )
    assert any("No validation" in e.message for e in events if isinstance(e, Warned))
    assert all(e.score is None for e in events if isinstance(e, Trained))
    assert (refined.verdict.old, refined.verdict.new) == (None, None)
    assert refined.verdict.finding == "too little to judge"


def test_settings_that_can_not_work_are_named():
    with pytest.raises(RecipeError, match="steps"):
        refine(np.zeros((32, 32)), np.zeros((32, 32), int), "random:unet-tiny", steps=0)


_KILLED = """
import sys, time
import numpy as np
from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model
from unet_studio.training.annotations import annotate
from unet_studio.training.session import open_session
from pathlib import Path
session = open_session(Path(sys.argv[1]), new_model("unet-tiny"))
labels = np.zeros((600, 600), np.uint8)
rng = np.random.default_rng(0)
number = 0
while True:
    y, x = rng.integers(0, 590, 2)
    labels[y : y + 9, x : x + 9] = 1 + number % 2
    session.save_strokes(0, annotate(labels))
    number += 1
    if number % 5 == 0:
        session.add(session.load(), parent=0, adopt=True)
    print(number, int((labels > 0).sum()), flush=True)
"""


def test_L08_a_killed_process_loses_no_stroke_and_no_finished_version(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "s"], stdout=subprocess.PIPE, text=True
    )
    last = ""
    for line in process.stdout:
        last = line
        if int(line.split()[0]) >= 23:
            time.sleep(0.013)  # in the middle of something
            os.kill(process.pid, signal.SIGKILL)
            break
    last = (process.stdout.read().splitlines() or [last])[-1]
    process.wait()
    process.stdout.close()
    saved, pixels = map(int, last.split())
    session = open_session(tmp_path / "s")
    assert len(session.strokes(0)) >= pixels
    assert len(session.versions) >= 1 + saved // 5
    for version in session.versions:
        assert session.load(version.number).sha256 == version.sha256


def cycle(session, pictures) -> None:
    image, _, painted = pictures
    refined = drained(steps_of(image[:2], painted[:2], {"steps": 1}, base=session.load()))[1]
    version = session.add(refined.model, parent=session.current.number, adopt=True)
    assert session.current.number == version.number
    session.revert()


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_L08_starts_and_reverts_leave_nothing_behind(count, pictures, tmp_path):
    session = open_session(tmp_path / "s", new_model("unet-tiny"))
    before = session.path(0).read_bytes()
    cycle(session, pictures)
    threads = threading.active_count()
    files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(count):
        cycle(session, pictures)
    assert threading.active_count() == threads
    if files:
        assert len(list(Path("/proc/self/fd").iterdir())) <= files
    assert session.current.number == 0
    assert session.path(0).read_bytes() == before
    assert load_model(str(session.path(0))).sha256 == session.current.sha256
    assert not [p for p in session.folder.iterdir() if ".partial-" in p.name]
