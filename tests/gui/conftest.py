"""Fixtures for tests in a real window: run them under xvfb-run."""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import time

import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from support.fake_engine import FakeEngine
from support.hand import Hand
from support.layers import blobs, discs, fingerprint
from support.strokes import SECONDS, show_refine

# Where Mesa draws with LLVM, importing triton later would end the process (see
# unet_studio/gui/graphics.py); torch does so by the way, in any later test.
sys.modules.setdefault("triton", None)
os.environ.setdefault("NAPARI_STRICT_QT", "1")

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
    assert not _threads_left(), "a run outlived its test"


def _threads_left():
    """Return our threads that are there after some seconds."""
    end = time.monotonic() + 5
    while True:
        left = [t for t in threading.enumerate() if t.name.startswith("unet-studio")]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.01)


@pytest.fixture
def resident():
    """A function that returns the memory of this process, in bytes."""
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
def answers_in(monkeypatch):
    """Answer what a module asks the user: ``answers_in(module)`` returns the questions.

    Each is answered with their ``yes``.
    """

    class Answers(list):
        yes = True

    def answer(module):
        asked = Answers()
        monkeypatch.setattr(
            module, "confirm", lambda parent, title, text: asked.append(text) or asked.yes
        )
        return asked

    return answer


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
            # The outcome is told before freed memory is handed back, which takes a moment.
            assert not _threads_left()

    return Contract()


@pytest.fixture
def blob_image():
    """A maker of test images: ``blob_image(shape)``."""
    return blobs


@pytest.fixture
def open_refine(open_studio, blob_image):
    """Open a viewer with an image and the Refine tab in front: ``viewer, tab, studio``."""

    def open_it(shape=(96, 96), name="cells", **keywords):
        viewer, studio = open_studio()
        viewer.add_image(blob_image(shape), name=name, **keywords)
        show_refine(studio)
        studio.tab.training.seconds.setMinimum(SECONDS)
        studio.tab.training.seconds.setValue(SECONDS)
        return viewer, studio.tab, studio

    return open_it


@pytest.fixture
def two_discs():
    """A maker of images with bright discs of radius 11 at two places: ``two_discs(shape)``."""
    return functools.partial(discs, ((40, 30), (52, 74)))


@pytest.fixture
def layer_mark():
    """Return what changes with a layer's pixels, place or metadata: ``layer_mark(layer)``."""
    return fingerprint


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
