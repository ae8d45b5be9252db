"""Fixtures for all tests. Light: neither torch nor napari is imported here."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy computer takes its time, for the first text above all: hypothesis makes its table of
# characters then. That is no failure.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
# What fails there is told as fully as in a test.
pytest.register_assert_rewrite("support")


def beside(name: str):
    """Import a module of this folder, which is on no path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def pytest_addoption(parser) -> None:
    beside("last_results").pytest_addoption(parser)


def pytest_configure(config) -> None:
    for name in ("skip_policy", "last_results"):
        beside(name).pytest_configure(config)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory) -> None:
    """Neither read nor write what the user of this computer has."""
    if "UNET_STUDIO_HOME" not in os.environ:
        os.environ["UNET_STUDIO_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session", autouse=True)
def heard_interrupts() -> None:
    """Let Ctrl-C reach the processes that tests start.

    A shell makes what it runs in the background deaf to it, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def real_trial():
    """Run networks in torch and float32 unless a test asks for something else.

    What "auto" takes is measured, and a busy computer measures now this, now that. What
    processes that tests start have measured and remembered does not count either.
    """
    from unet_studio.inference import choice

    real = choice.try_out, choice.remembered
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "try_out", lambda *_: {})
        patch.setattr(choice, "remembered", lambda *_: {})
        yield real


@pytest.fixture
def measuring(real_trial, monkeypatch, tmp_path) -> Path:
    """Measure as users do what "auto" takes, and remember it in the folder returned."""
    from unet_studio.inference import choice

    try_out, remembered = real_trial
    monkeypatch.setattr(choice, "try_out", try_out)
    monkeypatch.setattr(choice, "remembered", remembered)
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images with ground truth, which a plain clone does not have."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNET_STUDIO_TEST_DATA") or beside)
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip("shared test data not present")
    return folder


class Canary:
    """A hostile object: makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.fixture
def canary(tmp_path):
    """A hostile object to be put into files; the test fails if it has been run."""
    path = tmp_path / "canary"
    yield Canary(path)
    assert not path.exists(), "code from the file was run"


@pytest.fixture
def web(monkeypatch):
    """A web server on this computer that answers as it is told; no proxy in between."""
    module = beside("web_server")
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    server = module.WebServer()
    yield server
    server.close()


@pytest.fixture
def lacking_device():
    """A device that lacks an operation, and networks that need it."""
    return beside("lacking_device")


@pytest.fixture
def fault_contract():
    """What holds of every fault (K1 to K6), and marks of files."""
    return beside("fault_contract")


@pytest.fixture
def network_watch():
    """Which network calls code makes, in all the processes that come of it."""
    return beside("network_watch")
