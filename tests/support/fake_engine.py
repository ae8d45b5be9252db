"""A network that a test can hold up, or let fail."""

from __future__ import annotations

import threading

import numpy as np


class FakeEngine:
    """Stands in for the network: bright pixels are foreground. Waits where it is told to."""

    def __init__(self):
        self.calls = 0
        self.tiles = 4
        self.error = None
        self.gate = threading.Event()
        self.gate.set()
        self.volumes = []

    def segment_steps(self, volume, recipe, *, model=None, token=None):
        from unet_studio.events import Started, TileDone
        from unet_studio.pipeline import relabel

        self.calls += 1
        yield Started("predicting", self.tiles)
        for done in range(self.tiles):
            while not self.gate.wait(0.005):
                token.raise_if_cancelled()
            if self.error is not None and done == 1:
                raise self.error
            yield TileDone(done + 1, self.tiles)
        self.volumes.append(volume)
        return relabel(self._prediction(volume), recipe.objects, recipe.measure)

    def _prediction(self, volume):
        from unet_studio.inference.prediction import Prediction
        from unet_studio.models.card import ModelCard

        card = ModelCard(name="fake", architecture="unet", in_channels=1, representation="objects")
        grey = volume.read(channels=(0,)).astype(np.float32)
        bright = grey / max(float(grey.max()), 1.0)
        axes = volume.axes.with_channels()
        at = axes.names.index("C")
        stacked = np.concatenate([bright, np.zeros_like(bright), bright], axis=at)
        return Prediction(stacked.astype(np.float16), axes, card, volume.info, {"model": "fake"})
