"""P16: whatever the user does, in whatever order, the window stays consistent."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

STEPS = 60


class Walk:
    """A user who does things at random; each method is one of them."""

    def __init__(self, viewer, studio, engine, image, seed):
        self.viewer, self.studio, self.engine, self.image = viewer, studio, engine, image
        self.random = random.Random(seed)
        self.tab.update_forecast()

    @property
    def tab(self):
        return self.studio.tab

    def _pick(self, kind):
        chosen = [layer for layer in self.viewer.layers if layer.as_layer_data_tuple()[2] == kind]
        return self.random.choice(chosen) if chosen else None

    def click(self):
        self.tab.run_button.click()

    def close_gate(self):
        self.engine.gate.clear()

    def open_gate(self):
        self.engine.gate.set()

    def add_image(self):
        if len(self.viewer.layers) < 6:
            self.viewer.add_image(self.image(), name="cells")

    def remove_image(self):
        if (layer := self._pick("image")) is not None:
            self.viewer.layers.remove(layer)

    def remove_labels(self):
        if (layer := self._pick("labels")) is not None:
            self.viewer.layers.remove(layer)

    def rename(self):
        if (layer := self._pick("image")) is not None:
            layer.name = f"renamed {self.random.randint(0, 9)}"

    def replace_data(self):
        if (layer := self._pick("image")) is not None:
            layer.data = self.image((self.random.choice([64, 50]), 80))

    def move_slider(self):
        editor = self.tab.objects.options_form().editor("threshold")
        editor.setValue(self.random.uniform(0.1, 0.9))

    def paint(self):
        if (layer := self._pick("labels")) is not None:
            layer.data_setitem((np.array([0, 1]), np.array([0, 1])), 5)

    def undo(self):
        if (layer := self._pick("labels")) is not None:
            layer.undo()

    def reopen(self):
        model = self.studio.header.value().entry.path
        self.viewer.window.remove_dock_widget(self.studio)
        _, self.studio = self.viewer.window.add_plugin_dock_widget(
            "napari-unet-studio", "U-Net Studio"
        )
        self.studio.open_model(model)

    def check(self):
        runner, button = self.tab.runner, self.tab.run_button
        runs = [t for t in threading.enumerate() if t.name == "unet-studio" and t.is_alive()]
        # one run, one preview, and what a closed dock has told to stop
        assert len(runs) <= 4
        if runner.running:
            assert button.text() in ("Cancel", "Cancelling …")
            assert button.isEnabled() != runner.cancelling
        else:
            assert button.text() == "Segment"
        names = [self.tab.input.layer_box.itemText(i) for i in range(self._box().count())]
        images = [x for x in self.viewer.layers if x.as_layer_data_tuple()[2] == "image"]
        assert names == ([x.name for x in reversed(images)] or ["Open an image first"])

    def _box(self):
        return self.tab.input.layer_box


ACTIONS = [
    name for name in vars(Walk) if not name.startswith("_") and name not in ("tab", "check")
]


# test_state_machine.py walks over all four tabs in every run; these stay in the first.
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 4))]
)
def test_P16_random_walk(open_studio, engine, blob_image, qtbot, seed, notifications):
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    walk = Walk(viewer, studio, engine, blob_image, seed)
    trail = []
    for _ in range(STEPS):
        # a click is what most of the others get in the way of
        action = walk.random.choice([*ACTIONS, "click", "click"])
        trail.append(action)
        getattr(walk, action)()
        qtbot.wait(walk.random.choice([1, 1, 20, 150]))
        try:
            walk.check()
        except AssertionError:
            pytest.fail(f"after {trail}")
    engine.gate.set()
    qtbot.waitUntil(lambda: not walk.tab.runner.running, timeout=5_000)
    qtbot.waitUntil(lambda: not walk.tab.preview.busy, timeout=5_000)
    walk.check()
    assert trail.count("click") > 3
    for _, message in notifications():
        assert "changed while running" in message or "was edited while running" in message, message
