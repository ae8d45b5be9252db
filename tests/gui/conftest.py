"""Fixtures for tests in a real window: run them under xvfb-run."""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import threading
import time

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

# Where Mesa draws with LLVM, importing triton later would end the process (see
# unet_studio/gui/graphics.py); torch does so by the way, in any later test.
sys.modules.setdefault("triton", None)
os.environ.setdefault("NAPARI_STRICT_QT", "1")

LEFT, PLAIN = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
PLUGIN, WIDGET = "napari-unet-studio", "U-Net Studio"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A model file with random weights: small, fast, and wrong."""
    from unet_studio.models.model import save_model
    from unet_studio.models.presets import new_model

    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(new_model("unet-tiny", representation="objects"), path)
    return path


@pytest.fixture(scope="session", autouse=True)
def _what_is_imported_is_not_garbage():
    """Let the collector look at windows alone, not at a million objects of torch and others.

    napari collects whenever a layer is removed, in one second of two that these tests take.
    """
    import napari._qt.qt_viewer  # noqa: F401
    import segmentation_models_pytorch  # noqa: F401
    import skimage.measure  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_model_store(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _no_viewer_waits_for_the_collector():
    """Let go of closed viewers that only hold on to themselves.

    napari's fixture looks at the two young generations alone, and takes what a busy test has
    aged for a leak. One that is really held stays here, and napari's fixture says so.
    """
    module = sys.modules.get("napari._qt.qt_viewer")
    if module is not None and len(module.QtViewer._instances):
        gc.collect()


@pytest.fixture(autouse=True)
def _no_threads_left():
    """Every run's thread ends with its test."""
    yield
    end = time.monotonic() + 5
    while time.monotonic() < end and _our_threads():
        time.sleep(0.01)
    assert not _our_threads(), "a run outlived its test"


def _our_threads():
    return [t for t in threading.enumerate() if t.name.startswith("unet-studio")]


@pytest.fixture
def resident():
    """A function that returns the memory in use by this process, in bytes."""
    import psutil

    process = psutil.Process()

    def measure():
        gc.collect()
        return process.memory_info().rss

    return measure


@pytest.fixture
def notifications():
    """What napari has told the user since the test began, as (severity, message)."""
    from napari.utils.notifications import notification_manager

    class Notifications:
        def __init__(self):
            self._start = len(notification_manager.records)

        def __call__(self):
            return [
                (str(n.severity), n.message)
                for n in list(notification_manager.records)[self._start :]
            ]

    notification_manager.records.clear()
    return Notifications()


@pytest.fixture
def open_studio(make_napari_viewer_proxy, tiny_model):
    """Open a viewer with widget and tiny model: ``viewer, studio = open_studio()``."""

    def open_it(**keywords):
        viewer = make_napari_viewer_proxy(strict_qt="raise", **keywords)
        _, studio = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        studio.open_model(tiny_model)
        studio.tab.update_forecast()
        return viewer, studio

    yield open_it
    gc.collect()


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


@pytest.fixture
def engine(monkeypatch):
    """Replace the network by :class:`FakeEngine`; everything around it is real."""
    import unet_studio.pipeline as pipeline

    fake = FakeEngine()
    monkeypatch.setattr(pipeline, "segment_steps", fake.segment_steps)
    return fake


@pytest.fixture
def run(qtbot):
    """Click the primary button and wait for the end: ``run(studio)``."""

    def click_and_wait(studio, timeout=60_000):
        studio.tab.update_forecast()
        assert studio.tab.run_button.isEnabled(), studio.tab.forecast.text()
        studio.tab.run_button.click()
        qtbot.waitUntil(lambda: not studio.tab.runner.running, timeout=timeout)

    return click_and_wait


@pytest.fixture
def contract(notifications, fault_contract):
    """K1-K3 of a fault in the window: one helpful message, nothing lost, everything at rest."""

    class Contract:
        def watch(self, viewer):
            self.viewer = viewer
            self.before = {layer.unique_id: fingerprint(layer) for layer in viewer.layers}

        def check(self, studio, *patterns, layers_added=0, messages=1):
            told = notifications()
            assert len(told) == messages, told
            now = {layer.unique_id: fingerprint(layer) for layer in self.viewer.layers}
            assert len(now.keys() - self.before.keys()) == layers_added
            fault_contract.assert_fault_contract(
                "\n".join(text for _, text in told),
                *patterns,
                before=self.before,
                now=now,
                at_rest=lambda: self._at_rest(studio),
            )

        def _at_rest(self, studio):
            from napari.utils.progress import progress

            assert not studio.tab.runner.running
            assert studio.tab.run_button.text() == "Segment"
            assert not studio.tab.bar.isVisible()
            assert not [p for p in progress._all_instances if "·" in str(p.desc)]
            assert not _our_threads()

    return Contract()


def fingerprint(layer):
    data = layer.data[0] if layer.multiscale else layer.data
    parts = (layer.scale, layer.translate, layer.rotate, layer.shear, np.asarray(layer.affine))
    return (
        hashlib.sha1(np.ascontiguousarray(data).tobytes()).hexdigest(),
        *(np.asarray(part).tobytes() for part in parts),
        tuple(map(str, layer.units)),
        repr(dict(layer.metadata)),
    )


def blobs(shape=(64, 80), seed=0):
    """A dark image with bright discs (in the last two dimensions of every plane)."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.uint8)
    rows, columns = np.indices(shape[-2:])
    for row, column in ((16, 20), (44, 30), (30, 60)):
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 64
        image[..., disc] = 200
    return image + rng.integers(0, 5, shape, dtype=np.uint8)


@pytest.fixture
def blob_image():
    """A maker of test images: ``blob_image(shape)``."""
    return blobs


@pytest.fixture
def two_discs():
    """A maker of images with bright discs of radius 11 at two places: ``two_discs(shape)``."""

    def draw(shape=(96, 104)):
        image = np.random.default_rng(0).integers(0, 25, shape, dtype=np.uint8)
        rows, columns = np.indices(shape[-2:])
        for row, column in ((40, 30), (52, 74)):
            image[..., (rows - row) ** 2 + (columns - column) ** 2 < 121] += 180
        return image

    return draw


@pytest.fixture
def layer_mark():
    """Return what changes with a layer's pixels, place or metadata: ``layer_mark(layer)``."""
    return fingerprint


class Hand:
    """Clicks and types in the canvas as a person does, with events of Qt."""

    def __init__(self, viewer, studio, qtbot):
        self.viewer, self.studio, self.qtbot = viewer, studio, qtbot
        window = getattr(viewer.window, "__wrapped__", viewer.window)
        self.canvas = window._qt_viewer.canvas.native

    @property
    def tab(self):
        return self.studio.tab

    @property
    def clicking(self):
        return self.tab.clicking

    def start(self):
        """Press the primary button, and wait for the model."""
        assert self.tab.run_button.isEnabled(), self.tab.run_button.toolTip()
        self.tab.run_button.click()
        return self.wait()

    def wait(self):
        """Wait until every click has been answered; return what is said."""
        self.qtbot.waitUntil(
            lambda: self.clicking is None or not self.clicking.desk.busy, timeout=60_000
        )
        QApplication.processEvents()
        return self.tab.summary.text()

    def place(self, layer, position):
        """Return where a position in a layer's data is on the canvas."""
        QApplication.processEvents()
        world = np.asarray(layer.data_to_world(position))
        shown = [world[a - self.viewer.dims.ndim] for a in self.viewer.dims.displayed]
        camera = self.viewer.scene.camera
        centre = np.asarray(camera.center)[-2:]
        size = np.array([self.canvas.height(), self.canvas.width()])
        y, x = size / 2 + (np.asarray(shown) - centre) * camera.zoom
        return QPoint(round(float(x)), round(float(y)))

    def click(self, layer, position, modifier=None, wait=True):
        """Click at a position in a layer's data."""
        point = self.place(layer, position)
        assert self.canvas.rect().contains(point), point
        QTest.mouseMove(self.canvas, point)
        QTest.mouseClick(self.canvas, LEFT, modifier or PLAIN, point)
        return self.wait() if wait else ""

    def drag(self, layer, start, stop):
        """Press, move and release."""
        one, other = self.place(layer, start), self.place(layer, stop)
        QTest.mouseMove(self.canvas, one)
        QTest.mousePress(self.canvas, LEFT, PLAIN, one)
        for part in (0.25, 0.5, 0.75, 1.0):
            between = one + (other - one) * part
            # QTest.mouseMove carries no pressed button.
            _move(self.canvas, between)
            self.qtbot.wait(10)
        QTest.mouseRelease(self.canvas, LEFT, PLAIN, other)
        self.qtbot.wait(10)
        return self.wait()

    def press(self, key, modifier=None):
        """Press a key in the canvas."""
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{key}"), modifier or PLAIN)
        return self.wait()


def _move(widget, point):
    there = QPointF(widget.mapToGlobal(point))
    event = QMouseEvent(
        QEvent.Type.MouseMove, QPointF(point), there, Qt.MouseButton.NoButton, LEFT, PLAIN
    )
    QApplication.sendEvent(widget, event)


@pytest.fixture(scope="module")
def _own_application():
    """Commands and menus of a module's window, as napari's fixture has them for a test's.

    That fixture forgets what is registered, and a second window of the real application would
    register it again.
    """
    from app_model import Application
    from napari._app_model._app import NapariApplication, _napari_names
    from napari._qt._qapp_model.qactions import init_qactions
    from napari.plugins import _initialize_plugins

    application = NapariApplication("module_app")
    application.injection_store.namespace = _napari_names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NapariApplication, "get_app_model", lambda *_: application)
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()
        yield
        # The menus of the closed window are gone: telling each of them what it loses fails,
        # and takes 25 s in all.
        with application.menus.menus_changed.blocked():
            Application.destroy("module_app")
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()


@pytest.fixture(scope="module")
def click_window(_own_application):
    """A window with the dock widget, shared by a module's tests: opening one takes seconds."""
    import napari

    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.window.resize(1300, 900)
    _, studio = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    yield viewer, studio
    viewer.close()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()
    gc.collect()


@pytest.fixture
def hand(click_window, qtbot):
    """The Click tab in front of an empty window."""
    viewer, studio = click_window
    titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
    studio.tabs.setCurrentIndex(titles.index("Click"))
    tab = studio.tab
    yield Hand(viewer, studio, qtbot)
    studio.tabs.setCurrentIndex(titles.index("Click"))
    if tab.clicking is not None:
        tab.clicking.end()
    viewer.layers.clear()
    viewer.dims.ndisplay = 2
    tab.form.policy_box.setCurrentIndex(0)
    QApplication.processEvents()
