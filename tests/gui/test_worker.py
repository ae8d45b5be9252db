"""The worker: every outcome arrives, once, on the main thread, and the window stays alive."""

from __future__ import annotations

import gc
import platform
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.events import Started, TileDone, Warned
from unet_studio.gui.worker import Failure, Job, Stopped, Success
from unet_studio.inference.freed_memory import give_back_freed_memory


@pytest.fixture
def job(qtbot, qapp):
    """Run steps to their end: ``job(steps) -> (job, outcome, progress)``."""
    parents = []

    def run(steps, cancel_after_ms=None, **options):
        parent = QObject()
        parents.append(parent)
        one = Job(steps, parent, **options)
        outcomes, progress = [], []
        one.ended.connect(outcomes.append)
        one.progressed.connect(progress.append)
        one.start()
        if cancel_after_ms is not None:
            QTimer.singleShot(cancel_after_ms, one.cancel)
        qtbot.waitUntil(lambda: bool(outcomes), timeout=10_000)
        assert len(outcomes) == 1
        return one, outcomes[0], progress

    return run


def test_a_result_arrives_on_the_main_thread(job):
    seen = []

    def steps(token):
        seen.append(threading.current_thread())
        yield Started("predicting", 1)
        return 42

    _, outcome, _ = job(steps)
    assert outcome == Success(42)
    assert seen[0] is not threading.main_thread()


@pytest.mark.parametrize(
    "error", [RuntimeError("cuDNN"), ValueError("x"), MemoryError(), KeyError(), SystemExit(3)]
)
def test_every_exception_arrives_as_a_value(job, error):
    def steps(token):
        yield Started("predicting")
        raise error

    _, outcome, _ = job(steps)
    assert isinstance(outcome, Failure)
    assert outcome.error is error
    assert "steps" in outcome.details
    assert outcome.error.__traceback__ is None


def test_a_torch_out_of_memory_error_arrives(job):
    import torch

    def steps(token):
        yield Started("predicting")
        raise torch.OutOfMemoryError("CUDA out of memory")

    _, outcome, _ = job(steps)
    assert type(outcome.error).__name__ == "OutOfMemoryError"


def test_a_failed_run_does_not_keep_its_arrays(job):
    alive = []

    def steps(token):
        class Tile(np.ndarray):
            pass

        tile = np.zeros(1000).view(Tile)
        alive.append(weakref.ref(tile))
        yield Started("predicting")
        try:
            raise ValueError("inner")
        except ValueError as inner:
            raise RuntimeError("outer") from inner

    _, outcome, _ = job(steps)
    gc.collect()
    assert isinstance(outcome, Failure)
    assert alive[0]() is None


def test_cancel_ends_within_one_step(job):
    def steps(token):
        for i in range(10_000):
            time.sleep(0.01)
            yield TileDone(i, 10_000)

    began = time.monotonic()
    _, outcome, progress = job(steps, cancel_after_ms=200)
    assert isinstance(outcome, Stopped)
    assert time.monotonic() - began < 2
    assert progress


def test_a_result_that_comes_after_cancel_is_dropped(job):
    def steps(token):
        yield Started("predicting")
        token.cancel()
        return "late"

    assert isinstance(job(steps)[1], Stopped)


def test_L10_progress_is_thinned_and_the_window_stays_alive(job):
    gaps, last = [], [time.monotonic()]
    heartbeat = QTimer()

    def beat():
        now = time.monotonic()
        gaps.append(now - last[0])
        last[0] = now

    heartbeat.timeout.connect(beat)
    heartbeat.start(20)

    def steps(token):
        end = time.monotonic() + 1.5
        done = 0
        while time.monotonic() < end:
            done += 1
            yield TileDone(done, 10**9)
        return done

    _, outcome, progress = job(steps)
    heartbeat.stop()
    assert outcome.value > 1_000, "the flood was no flood"
    assert len(progress) <= 1.7 * 20 + 2
    # This machine may be busy with other work; a frozen window showed gaps of 1,000 ms.
    assert sorted(gaps)[int(len(gaps) * 0.9)] < 0.3


def test_a_stage_is_told_although_its_first_part_is_done_at_once(job):
    """Else the window would go on to name the stage before."""

    def steps(token):
        for stage in ("loading the model", "making objects"):
            yield Started(stage, 3)
            yield TileDone(1, 3)
            yield TileDone(2, 3)
            time.sleep(0.3)
        return None

    told = job(steps)[2]
    assert told == [
        Started("loading the model", 3),
        TileDone(2, 3),
        Started("making objects", 3),
        TileDone(2, 3),
    ]


def test_warnings_are_never_thinned(qtbot):
    parent, told, ended = QObject(), [], []

    def steps(token):
        for i in range(50):
            yield Warned(str(i))
        return None

    one = Job(steps, parent)
    one.warned.connect(told.append)
    one.ended.connect(ended.append)
    one.start()
    qtbot.waitUntil(lambda: bool(ended))
    assert told == [str(i) for i in range(50)]


def test_an_abandoned_job_says_nothing_and_ends(qtbot):
    parent, told = QObject(), []

    def steps(token):
        while True:
            time.sleep(0.01)
            yield Started("predicting")

    one = Job(steps, parent)
    one.ended.connect(told.append)
    one.start()
    one.abandon()
    qtbot.waitUntil(lambda: not one._thread.is_alive(), timeout=2_000)
    qtbot.wait(120)
    assert told == []


def test_5000_signals_do_not_wear_out_python(qapp):
    """PySide6 6.12.0 takes a reference to True with each emit, until Python dies."""

    class Source(QObject):
        changed = Signal(bool)

    received = []
    source = Source()
    source.changed.connect(received.append)
    before = sys.getrefcount(True)
    for _ in range(5_000):
        source.changed.emit(True)
    assert len(received) == 5_000
    received.clear()
    # From 3.12 on True is immortal, and its count says nothing.
    assert abs(sys.getrefcount(True) - before) < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
@pytest.mark.parametrize("cancelled", [False, True])
def test_L09_what_a_large_job_has_freed_goes_back_to_the_system(job, resident, qtbot, cancelled):
    def steps(token):
        pieces = [np.ones(8_000) for _ in range(3_000)]  # 192 MB, below what is mapped by itself
        kept = pieces[::60]  # between which the C library keeps the rest
        yield Started("predicting", 1)
        del pieces
        if cancelled:
            token.cancel()
        return kept

    give_back_freed_memory()  # holes that other tests have left would hide what stays
    before = resident()
    _, outcome, _ = job(steps, large=True)
    assert isinstance(outcome, Stopped if cancelled else Success)
    qtbot.waitUntil(lambda: resident() < before + 60e6, timeout=5_000)


@pytest.fixture
def searching_all():
    """Undo what the other tests of windows do to be quick."""
    gc.unfreeze()
    yield
    gc.freeze()


def test_no_long_search_for_garbage_interrupts_what_a_window_does_meanwhile(job, searching_all):
    """A full search looks at what the work made alone; afterwards at everything, again."""
    many = [[] for _ in range(50_000)]
    go_on, counted = threading.Event(), {}

    def short(token):
        yield Started("short")
        counted["short"] = gc.get_freeze_count()

    def long(token):
        yield Started("long")
        go_on.wait(10)
        counted["long"] = gc.get_freeze_count()
        raise ValueError("x")

    assert gc.get_freeze_count() == 0
    _, first, _ = job(short, large=True)
    assert isinstance(first, Success)
    assert counted["short"] >= len(many)
    assert gc.get_freeze_count() == 0
    parent = QObject()
    other = Job(long, parent, large=True)
    other.start()
    job(short, large=True)
    go_on.set()  # one of the two has ended
    other._thread.join(10)
    assert counted["long"] >= len(many)
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_left_out_of_the_search_stays_out(job):
    def steps(token):
        yield Started("predicting")

    gc.freeze()
    job(steps, large=True)
    assert gc.get_freeze_count() > 0


def test_what_was_garbage_before_a_run_is_found_after_it(job, searching_all):
    class Thing:
        pass

    thing = Thing()
    thing.itself = thing
    gone = weakref.ref(thing)

    def steps(token):
        yield Started("predicting")
        gc.collect()

    gc.disable()
    try:
        del thing
        job(steps, large=True)
        assert gone() is not None
        gc.collect()
    finally:
        gc.enable()
    assert gone() is None
