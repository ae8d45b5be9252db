"""A bar on a terminal, plain lines in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from unet_studio.cli import console
from unet_studio.events import Started, TileDone, Warned

EVENTS = [Started("predicting", 10), TileDone(3, 10), Warned("careful with [b]this[/b]")]


@pytest.fixture(params=[True, False], ids=["terminal", "log"])
def written(request, monkeypatch):
    """Whether it is a terminal, and what was written to it for the events."""
    stream = io.StringIO()
    screen = Console(file=stream, force_terminal=request.param, width=120, color_system=None)
    monkeypatch.setattr(console, "err", screen)
    with console.progress_of("[red]x.tif") as draw:
        for event in EVENTS:
            draw(event)
    return request.param, stream.getvalue()


def test_a_terminal_sees_a_bar_and_a_log_does_not(written):
    terminal, text = written
    assert ("predicting" in text) is terminal
    assert ("3/10" in text) is terminal
    assert ("[red]x.tif" in text) is terminal, "a name is not markup"


def test_both_see_warnings_as_they_are(written):
    assert "warning: careful with [b]this[/b]" in written[1]
