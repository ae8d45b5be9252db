"""Talking to a terminal: a progress bar where there is one, plain lines in a log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from unet_studio.events import Event, Started, TileDone, Warned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOME_FAILED = 2
INTERRUPTED = 130
TERMINATED = 143

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
    if not err.is_terminal:
        yield _print_warnings
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
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
                progress.update(task, completed=event.done, total=event.total)
            else:
                _print_warnings(event)

        yield draw


def _print_warnings(event: Event) -> None:
    if isinstance(event, Warned):
        warn(event.message)
