"""Fixtures for models that are missing, damaged or meant badly."""

from __future__ import annotations

import errno
import os

import pytest

from support.downloads import HASH, QUICK
from unet_studio.models.download import download


@pytest.fixture
def read_only(monkeypatch):
    """Make a folder take no new files: ``read_only(folder)``; root is refused all the same."""

    def close(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o555)
        real = os.open

        def refusing(path, flags, *rest, **keywords):
            if flags & os.O_CREAT and os.fspath(path).startswith(f"{folder}{os.sep}"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))
            return real(path, flags, *rest, **keywords)

        monkeypatch.setattr(os, "open", refusing)

    return close


@pytest.fixture
def target(tmp_path):
    return tmp_path / "store" / "model.bin"


@pytest.fixture
def fetch(web, target):
    """Download ``/model``; keywords as for :func:`download`."""

    def run(path="/model", **keywords):
        given = {"sha256": HASH, "size_limit": 10**8, "local": True, "limits": QUICK}
        return download(web.url(path), target, **{**given, **keywords})

    return run
