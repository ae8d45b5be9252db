"""A batch in a process of its own, which tells what it does in lines of JSON.

    python -m unet_studio.batch.talk

The window starts it: a batch then neither slows the window nor ends with it in an unsafe
way. The first line of the standard input is an :class:`Order`; when the input is closed,
or anything more comes, the batch is cancelled. So it also ends when the window is
killed. The standard output gets one object per line, each with an ``event``:

========= =========================================================================
looked    a :class:`~unet_studio.batch.preview.Preview`
started   ``total``
progress  ``name`` of the stage, ``done`` of ``total`` tiles of the image in work
item      an :class:`~unet_studio.batch.job.ItemResult`
ended     ``problems``: list of str; ``objects``: rows of the table; the last line
cancelled the last line
error     ``reason``; the last line
========= =========================================================================
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import Cancelled, UNetStudioError
from unet_studio.events import CancelToken, Event, Started, TileDone

if TYPE_CHECKING:
    from unet_studio.batch.job import ItemResult
    from unet_studio.batch.run import BatchReport
    from unet_studio.recipe import Recipe

Tell = Callable[..., None]
_PROGRESS_S = 0.2


@dataclass(frozen=True)
class Order:
    """What to do.

    Attributes
    ----------
    inputs : list of str
        As for :func:`unet_studio.batch.run.run_batch`.
    output : str
    recipe : dict
        Fields of the recipe.
    recipe_file : str
        Path of a recipe file, instead.
    look : bool
        Only look what would be done.
    options : dict
        Further arguments of ``run_batch``: ``probabilities``, ``overlays``, ``redo`` and so on.
    """

    inputs: list[str]
    output: str
    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_file: str = ""
    look: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """Return it as the process wants it."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    """Take the order, do it, and tell of it."""
    tell = _speaker()
    line, rest = _first_line()
    token = CancelToken()
    threading.Thread(target=_listen, args=(token, rest), daemon=True).start()
    try:
        order = Order(**json.loads(line))
        (_look if order.look else _run)(order, token, tell)
    except Cancelled:
        tell("cancelled")
    except UNetStudioError as error:
        tell("error", reason=str(error))


def _speaker() -> Tell:
    """Return a function that writes a line; what others print goes to the error output."""
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock = threading.Lock()

    def tell(event: str, **values: Any) -> None:
        content = json.dumps({"event": event, **values}).encode() + b"\n"
        with lock:
            while content:
                content = content[os.write(out, content) :]

    return tell


def _first_line() -> tuple[bytes, bool]:
    """Return the order, and whether something came after it."""
    # Not through sys.stdin: a thread that waits in it would hold its lock at the end.
    read = b""
    while b"\n" not in read:
        block = os.read(0, 1 << 16)
        if not block:
            break
        read += block
    line, _, rest = read.partition(b"\n")
    return line, bool(rest)


def _listen(token: CancelToken, cancelled: bool) -> None:
    if not cancelled:
        os.read(0, 1)
    token.cancel()


def _recipe_of(order: Order) -> Recipe:
    from unet_studio.batch.recipe_file import load_recipe
    from unet_studio.recipe import parse_recipe

    return load_recipe(order.recipe_file) if order.recipe_file else parse_recipe(order.recipe)


def _look(order: Order, token: CancelToken, tell: Tell) -> None:
    from unet_studio.batch.preview import look_at
    from unet_studio.batch.run import plan_batch
    from unet_studio.models.sources import card_of

    recipe = _recipe_of(order)
    card = card_of(recipe.model)
    plan = plan_batch(order.inputs, order.output, into_zarr=order.options.get("into_zarr", ""))
    tell("started", total=len(plan.tasks))
    for preview in look_at(plan.tasks, recipe, card):
        token.raise_if_cancelled()
        tell("looked", **asdict(preview))
    tell("ended", problems=[text for _, text in plan.found.problems], objects=0)


def _run(order: Order, token: CancelToken, tell: Tell) -> None:
    from unet_studio.batch.run import run_batch

    recipe = _recipe_of(order)
    told = time.monotonic()
    stage = ""

    def on_event(event: Event) -> None:
        nonlocal told, stage
        if isinstance(event, Started):
            stage = event.stage
        elif (
            isinstance(event, TileDone)
            and event.total > 1
            and time.monotonic() - told > _PROGRESS_S
        ):
            told = time.monotonic()
            tell("progress", name=stage, done=event.done, total=event.total)

    first = True

    def on_result(result: ItemResult, report: BatchReport) -> None:
        nonlocal first
        if first:
            tell("started", total=report.total)
            first = False
        tell("item", **asdict(result))

    report = run_batch(
        recipe, order.inputs, Path(order.output), token=token, on_event=on_event,
        on_result=on_result, **order.options,
    )  # fmt: skip
    tell("ended", problems=report.problems, objects=report.objects)


if __name__ == "__main__":
    main()
