"""Fixtures for all tests. Light: neither torch nor napari is imported here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images with ground truth, which a plain clone does not have."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNET_STUDIO_TEST_DATA") or beside)
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip("shared test data not present")
    return folder
