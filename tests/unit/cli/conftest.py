"""The command line as a user runs it: arguments in, exit code and text out."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def unet_studio(monkeypatch, capsys):
    """Run ``unet-studio ARGUMENTS`` in this process, error handling included."""
    from unet_studio.cli.app import main

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["unet-studio", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return Ended(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Path of a small model file that finds one thing in one grey channel."""
    from unet_studio.models.model import save_model
    from unet_studio.models.presets import new_model

    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(new_model("unet-tiny", name="tiny", licence="CC0-1.0"), path)
    return path
