"""P16, K1-K3: any order of all four verbs leaves the window consistent and the user's data whole.

The window, the tabs, the training and the answers to clicks are real; only the network of
Segment is a stand-in that can be held up. ``make test-slow`` does 200 walks of 30 steps.
"""

from __future__ import annotations

import gc
import threading
import time
import traceback
from pathlib import Path

import napari
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QApplication

PLUGIN, WIDGET, WIDGET_CLASS = "napari-unet-studio", "U-Net Studio", "StudioWidget"
PLACES = ((16, 20), (44, 30), (30, 60), (8, 40), (58, 70))
SHAPES = ((64, 80), (50, 80), (2, 48, 80))
TITLES = ("Segment", "Click", "Refine", "Batch")
index = st.integers(0, 9)
# What a user may be told on such a walk: each says what to do, and none is a fault of ours.
EXPECTED = (
    "changed while running", "was edited while running", "was removed", "Choose the axes",
    "Paint", "paint", "Say what its axes are", "stack or a movie", "were removed",
    "No validation:",
)  # fmt: skip


class Walk(RuleBasedStateMachine):
    """A user of one window; each rule is something that can be done in it."""

    place: Place  # set by the test

    @initialize()
    def open(self):
        self.at, self.users = self.place, {}
        self.told_before = len(self.at.told())
        self.at.reopen()
        self._add_image(0)

    # -- the verbs --------------------------------------------------------------

    @rule(title=st.sampled_from(TITLES), which=index)
    def start_or_stop(self, title, which):
        self.at.studio.tabs.setCurrentIndex(TITLES.index(title))
        if title != "Batch":
            self._choose_image(which)
        self._press(self.tab.run_button)

    @rule(held=st.booleans(), threshold=st.floats(0.1, 0.9))
    def segment(self, held, threshold):
        """Free or hold up the network, and move a slider."""
        (self.at.engine.gate.clear if held else self.at.engine.gate.set)()
        self._tab("Segment").objects.options_form().editor("threshold").setValue(threshold)

    @rule(where=index, positive=st.booleans(), then=st.sampled_from(["", "commit", "next_object"]))
    def click(self, where, positive, then):
        tab = self._tab("Click")
        if tab.clicking is None:
            self.start_or_stop("Click", where)
        if tab.clicking is None:
            return
        row, column = PLACES[where % len(PLACES)]
        leading = (0,) * (len(tab.clicking.source.axes) - 2)
        tab.clicking.actions.click((*leading, min(row, 47), column), positive)
        if then and tab.panel.buttons[then].isEnabled():
            tab.panel.buttons[then].click()

    @rule(name=st.sampled_from(["commit", "next_object", "reset", "undo", "redo"]))
    def press_a_button_of_click(self, name):
        tab = self._tab("Click")
        if tab.clicking is not None:
            self._press(tab.panel.buttons[name])

    @rule(train=st.booleans())
    def paint_strokes(self, train):
        self.at.studio.tabs.setCurrentIndex(TITLES.index("Refine"))
        tab = self.tab
        self._press(tab.painting.paint)
        canvas = tab.canvas()
        if canvas is None:
            return
        layer = canvas.labels
        leading = (0,) * (layer.data.ndim - 2)
        for label, (row, column) in ((2, PLACES[0]), (2, PLACES[2]), (1, PLACES[3])):
            for step in range(5):
                layer.paint((*leading, row, column + step), label)
        if train and not tab.runner.running:
            self._press(tab.run_button)

    @rule(what=st.sampled_from(["wait", "adopt", "keep_old", "revert", "cancel", "undo"]))
    def refine(self, what):
        tab = self._tab("Refine")
        if what == "wait":
            self.at.qtbot.waitUntil(lambda: not tab.runner.running, timeout=60_000)
        elif what == "undo":
            if (canvas := tab.canvas()) is not None:
                canvas.labels.undo()
        else:
            owner = {"revert": tab.versions, "cancel": tab.training}.get(what, tab.card)
            self.at.studio.tabs.setCurrentIndex(TITLES.index("Refine"))
            self._press(getattr(owner, what))

    # -- what gets in their way -------------------------------------------------

    @rule(what=st.sampled_from(["add", "add labels", "replace", "move"]), which=index)
    def change_what_is_the_users(self, what, which):
        if what == "add":
            self._add_image(which)
        elif what == "add labels":
            self._mine(self.viewer.add_labels(np.eye(40, dtype=np.uint8), name="my labels"))
        elif (layer := self._image(which)) is not None:
            if what == "replace":
                layer.data = self.at.image(layer.data.shape, which)
            else:
                layer.scale = np.asarray(layer.scale) * 1.5
            self._mine(layer)

    @rule(rename=st.booleans(), which=st.integers(0, 20))
    def rename_or_remove_any_layer(self, rename, which):
        if which == 20:
            self.viewer.layers.clear()
        if self.viewer.layers:
            layer = self.viewer.layers[which % len(self.viewer.layers)]
            if rename:
                layer.name = f"renamed {which}"
            else:
                self.viewer.layers.remove(layer)

    @rule(model=st.integers(0, 5))
    def change_model_or_reopen(self, model):
        if model < len(self.at.models):
            self.at.studio.open_model(self.at.models[model])
        elif model == 5:
            self.at.reopen()

    @rule(ms=st.sampled_from([1, 30, 200, 1500]))
    def wait(self, ms):
        self.at.qtbot.wait(ms)

    # -- what always holds ------------------------------------------------------

    @invariant()
    def nothing_was_raised(self):
        QApplication.processEvents()
        self.at.steps += 1
        raised = self.at.raised
        assert not raised, "".join(traceback.format_exception(*raised[0]))

    @invariant()
    def the_users_layers_are_as_the_user_left_them(self):
        now = {layer.unique_id: layer for layer in self.viewer.layers}
        for key, mark in self.users.items():
            assert key not in now or self.at.mark(now[key]) == mark, now[key].name

    @invariant()
    def every_message_helps(self):
        for kind, text in self.at.told()[self.told_before :]:
            assert "Traceback" not in text
            assert "Error" not in text, text
            if kind in ("error", "warning"):
                assert any(words in text for words in EXPECTED), text

    @invariant()
    def buttons_say_what_they_do(self):
        segment, refine = self._tab("Segment"), self._tab("Refine")
        running = segment.runner.running
        assert (segment.run_button.text() == "Segment") != running
        assert refine.training.cancel.isVisibleTo(refine) == refine.runner.running
        click = self._tab("Click")
        assert (click.run_button.text() == "Start clicking") == (click.clicking is None)

    @invariant()
    def threads_do_not_pile_up(self):
        assert len(_threads()) <= 12, [t.name for t in _threads()]

    def teardown(self):
        if hasattr(self, "at"):
            self.at.come_to_rest()

    # -- helpers ----------------------------------------------------------------

    @property
    def viewer(self):
        return self.at.viewer

    @property
    def tab(self):
        return self.at.studio.tab

    def _tab(self, title):
        return self.at.studio.tabs.widget(TITLES.index(title))

    def _press(self, button):
        if button.isEnabled() and button.isVisibleTo(self.at.studio):
            button.click()

    def _choose_image(self, which):
        if (layer := self._image(which)) is not None:
            self.tab.choose_layer(layer)

    def _add_image(self, shape):
        shape = SHAPES[shape % len(SHAPES)]
        names = ("z", "y", "x")[-len(shape) :]
        self._mine(self.viewer.add_image(self.at.image(shape), name="cells", axis_labels=names))

    def _mine(self, layer):
        self.users[layer.unique_id] = self.at.mark(layer)

    def _image(self, which):
        kinds = {layer: layer.as_layer_data_tuple()[2] for layer in self.viewer.layers}
        mine = [x for x, kind in kinds.items() if x.unique_id in self.users and kind == "image"]
        return mine[which % len(mine)] if mine else None


class Place:
    """The window that walks are made in, one after the other."""

    def __init__(self, viewer, studio, **parts):
        self.viewer, self.studio = viewer, studio
        self.rested = lambda: None
        self.steps, self.left = 0, []
        vars(self).update(parts)  # engine, qtbot, models, told, image, mark, raised

    def reopen(self):
        self.viewer.window.remove_dock_widget(self.studio)
        _, self.studio = self.viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        self.studio.open_model(self.models[0])
        refine = self.studio.tabs.widget(TITLES.index("Refine"))
        refine.training.seconds.setMinimum(1)
        refine.training.seconds.setValue(1)

    def come_to_rest(self):
        self.engine.gate.set()
        self.studio.shut_down()
        end = time.monotonic() + 20
        while time.monotonic() < end and _threads():
            self.qtbot.wait(20)
        assert not _threads(), [t.name for t in _threads()]
        left = [layer.name for layer in self.viewer.layers if "proposal" in layer.name]
        assert not left, left
        self.viewer.layers.clear()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()
        assert not self.raised, "".join(traceback.format_exception(*self.raised[0]))
        self.left.append(self.census())
        self.rested()

    def census(self):
        """Count what a walk could leave behind, once everything is at rest."""
        gc.collect()
        window = getattr(self.viewer.window, "__wrapped__", self.viewer.window)._qt_window
        return {
            "docks": sum(type(w).__name__ == WIDGET_CLASS for w in QApplication.allWidgets()),
            "windows": len(QApplication.topLevelWidgets()),
            "timers": len(window.findChildren(QTimer)),
            "files": len(_open_files()),
        }


def _open_files():
    """What this process has open, on Linux; without napari's picture of a turning wheel.

    napari opens that when a layer is slow for the first time, and keeps it.
    """
    wheel = Path(napari.__file__).parent / "resources" / "loading.gif"
    links = Path("/proc/self/fd").glob("*")
    return [name for link in links if (name := _target(link)) not in (None, wheel)]


def _target(link):
    try:
        return link.readlink()
    except FileNotFoundError:  # of this look at the folder itself
        return None


def _threads():
    return [t for t in threading.enumerate() if t.name.startswith("unet-studio") and t.is_alive()]


@pytest.fixture
def place(open_studio, engine, qtbot, tiny_model, tmp_path, notifications, blob_image, layer_mark):
    from unet_studio.models.model import save_model
    from unet_studio.models.presets import new_model

    other = tmp_path / "other.safetensors"
    save_model(new_model("unet-tiny", representation="binary"), other)
    viewer, studio = open_studio()
    with qtbot.capture_exceptions() as raised:
        yield Place(
            viewer, studio, engine=engine, qtbot=qtbot, models=[tiny_model, other],
            told=notifications, image=blob_image, mark=layer_mark, raised=raised,
        )  # fmt: skip
    raised.clear()
    gc.collect()


def walk(place, examples, steps):
    Walk.place = place
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=examples < 10,
            database=None,
            phases=[Phase.generate],  # shrinking takes windows for hours
            suppress_health_check=list(HealthCheck),
        ),
    )


def nothing_grows(left):
    """There are no more docks, windows, timers and files in the end than at first.

    What leaks stays. A file may be open for a moment while one walk is counted, hence the
    least of several.
    """
    print(left[0], left[-1])
    several = max(1, min(5, len(left) // 2))
    for what in ("docks", "windows", "timers", "files"):
        counts = [census[what] for census in left]
        assert min(counts[-several:]) <= min(counts[:several]), (what, counts)


def test_P16_any_order_of_the_four_verbs(place):
    walk(place, 3, 25)
    assert place.steps >= 50
    nothing_grows(place.left)


@pytest.mark.slow
@pytest.mark.timeout(2 * 3600)
def test_P16_L09_two_hundred_walks_keep_no_memory(place, resident):
    """As many steps as a working day has, in one window."""
    sizes = []
    place.rested = lambda: sizes.append(resident())
    walk(place, 200, 30)
    early, late = np.median(sizes[40:60]), np.median(sizes[-20:])
    print(f"{len(sizes)} walks; {early / 1e6:.0f} MB after 50, {late / 1e6:.0f} MB at the end")
    assert late < 1.05 * early, [round(s / 1e6) for s in sizes]
    assert place.steps >= 5_000
    nothing_grows(place.left[10:])  # libraries open files of their own at first
