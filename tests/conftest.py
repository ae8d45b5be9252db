"""Fixtures for all tests. Light: neither torch nor napari is imported here."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images with ground truth, which a plain clone does not have."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNET_STUDIO_TEST_DATA") or beside)
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip("shared test data not present")
    return folder
