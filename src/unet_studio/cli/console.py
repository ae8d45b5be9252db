"""Talking to a terminal: a progress bar where there is one, plain lines in a log."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from unet_studio.events import Event, Started, TileDone, Trained, Warned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOME_FAILED = 2
INTERRUPTED = 130
TERMINATED = 143
_LOG_EVERY_S = 10.0

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print one line for the user; names of files in it are not taken for markup."""
    out.print(escape(text))


def warn(text: str) -> None:
    """Print one warning."""
    err.print(f"[yellow]warning:[/] {escape(text)}")


def complain(text: str) -> None:
    """Print one error."""
    err.print(f"[red]error:[/] {escape(text)}")


@contextmanager
def progress_of(title: str) -> Iterator[Callable[[Event], None]]:
    """Yield a function that draws the events of one run.

    On a terminal a bar with the time left; elsewhere only warnings, so that logs
    stay short.

    Parameters
    ----------
    title : str
        What is being worked on, usually a file name.
    """
    with _drawn(title, MofNCompleteColumn(), TimeRemainingColumn()) as draw:
        yield draw


@contextmanager
def download_progress(title: str) -> Iterator[Callable[[Event], None]]:
    """Yield a function that draws a download's events, which count bytes.

    Parameters
    ----------
    title : str
        File name.
    """
    if not err.is_terminal:
        yield _lines_of(title)
        return
    columns = (DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with _drawn(title, *columns) as draw:
        yield draw


def _lines_of(title: str) -> Callable[[Event], None]:
    """Return a function that logs a download now and then."""
    from unet_studio.images.limits import readable_size

    last = time.monotonic()

    def log(event: Event) -> None:
        nonlocal last
        _print_warnings(event)
        if isinstance(event, TileDone) and time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            of = f" of {readable_size(event.total)}" if event.total else ""
            err.print(escape(f"{title}: {readable_size(event.done)}{of}"))

    return log


@contextmanager
def _drawn(title: str, *counts: ProgressColumn) -> Iterator[Callable[[Event], None]]:
    if not err.is_terminal:
        yield _print_warnings
        return
    columns = (TextColumn("{task.description}"), BarColumn(), *counts)
    with Progress(*columns, console=err, transient=True) as progress:
        task: TaskID = progress.add_task(escape(title), total=None)

        def draw(event: Event) -> None:
            if isinstance(event, Started):
                progress.update(
                    task,
                    description=f"{escape(title)}: {event.stage}",
                    total=event.total or None,
                    completed=0,
                )
            elif isinstance(event, TileDone):
                progress.update(task, completed=event.done, total=event.total or None)
            elif isinstance(event, Trained):
                progress.update(task, completed=event.step, total=event.steps or None)
            else:
                _print_warnings(event)

        yield draw


def _print_warnings(event: Event) -> None:
    if isinstance(event, Warned):
        warn(event.message)
