"""Events and cancelling, through the run that yields and obeys them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from unet_studio import as_volume, load_model, segment
from unet_studio.errors import Cancelled, UNetStudioError
from unet_studio.events import CancelToken, Started, TileDone, Warned
from unet_studio.pipeline import segment_steps
from unet_studio.recipe import Recipe, Tiling


@pytest.fixture(scope="module")
def model():
    return load_model("random:unet-tiny")


def tiled(model) -> Recipe:
    return Recipe(model="tiny", tiling=Tiling(tile=3 * model.card.halo // 16 * 16 + 16))


IMAGE = np.random.default_rng(0).integers(0, 255, (400, 300), dtype=np.uint8)


def test_a_run_reports_every_tile_once_and_in_order(model):
    events = []
    segment(IMAGE, model, tiling=tiled(model).tiling, on_event=events.append)
    done = [e for e in events if isinstance(e, TileDone)]
    assert len(done) > 1
    assert [e.done for e in done] == list(range(1, len(done) + 1))
    assert {e.total for e in done} == {len(done)}
    stages = [e for e in events if isinstance(e, Started)]
    assert [e.total for e in stages if e.total] == [len(done)]
    assert stages[-1].stage == "making objects"


def test_a_constant_image_warns(model):
    events = []
    result = segment(np.full((64, 64), 7, np.uint8), model, on_event=events.append)
    warned = [e.message for e in events if isinstance(e, Warned)]
    assert len(warned) == 1
    assert list(result.warnings) == warned


def test_cancelling_stops_between_tiles(model):
    token = CancelToken()
    steps = segment_steps(as_volume(IMAGE), tiled(model), model=model, token=token)
    seen = []
    with pytest.raises(Cancelled, match="cancelled"):
        for event in steps:
            seen.append(event)
            if isinstance(event, TileDone):
                token.cancel()
    assert sum(isinstance(e, TileDone) for e in seen) == 1


def test_a_token_set_before_the_run_lets_nothing_run(model):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        segment(IMAGE, model, token=token)


def test_another_thread_may_cancel():
    token = CancelToken()
    token.raise_if_cancelled()
    assert not token.cancelled
    thread = threading.Thread(target=token.cancel)
    thread.start()
    thread.join()
    assert token.cancelled
    with pytest.raises(UNetStudioError):
        token.raise_if_cancelled()
