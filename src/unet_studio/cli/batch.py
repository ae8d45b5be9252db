"""``unet-studio batch``: one recipe over many images; ``unet-studio recipe``: check one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from unet_studio.cli.console import SOME_FAILED, complain, err, say, warn
from unet_studio.events import Event, Started, TileDone, Warned

if TYPE_CHECKING:
    from unet_studio.batch.job import ItemResult
    from unet_studio.batch.run import BatchPlan, BatchReport
    from unet_studio.recipe import Recipe

Draw = Callable[["ItemResult", "BatchReport"], None]
Follow = Callable[[Event], None]
_NAMED_FAILURES = 20


def batch_command(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders (with those inside them), patterns such as 'raw/**/*.tif', "
            "OME-Zarr images and plates, and @list.txt with one of these per line."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read and written, and stop.")
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Do images again that are complete.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the network's probabilities, too.")
    ] = False,
    through_disk: Annotated[
        bool, typer.Option("--through-disk", help="Hold nothing large in memory; write OME-Zarrs.")
    ] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write objects.parquet, too (needs pyarrow).")
    ] = False,
    overlays: Annotated[
        bool,
        typer.Option(
            "--overlays", help="Write small pictures of the results, and sheets of them to scan."
        ),
    ] = False,
    into_zarr: Annotated[
        str,
        typer.Option(
            "--into-zarr",
            metavar="NAME",
            help="Write labels of OME-Zarr images into them, as labels/NAME.",
        ),
    ] = "",
    device: Annotated[
        str | None, typer.Option(help="Instead of the recipe's: auto, cpu, cuda, cuda:N or mps.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="So many processes on this machine, by dask.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, such as tcp://node1:8786.")
    ] = None,
    split_above: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="MEGAPIXELS",
            help="Have all workers do an image together if it is larger than this (in 3D: "
            "megavoxels) and its labels go to an OME-Zarr; 0 for never.",
        ),
    ] = 64,
) -> None:
    """Segment many images with one recipe; run it again to go on where it stopped.

    The output mirrors the tree of the inputs, and gets objects.csv (all objects) and
    manifest.jsonl (what each run did). Images that are complete, with the same recipe,
    model and content, are skipped.
    """
    from unet_studio.batch.recipe_file import load_recipe
    from unet_studio.batch.run import plan_batch, run_batch

    chosen = load_recipe(recipe)
    if device is not None:
        chosen = chosen.model_copy(update={"device": device})
    if dry_run:
        if _preview(chosen, plan_batch(inputs, output, into_zarr=into_zarr)):
            raise typer.Exit(SOME_FAILED)
        return
    with _progress() as (draw, follow):
        report = run_batch(
            chosen, inputs, output, probabilities=probabilities, through_disk=through_disk,
            redo=redo, parquet=parquet, overlays=overlays, into_zarr=into_zarr, workers=workers,
            scheduler=scheduler, split_above=split_above * 10**6, on_result=draw,
            on_event=follow,
        )  # fmt: skip
    _sum_up(report, output)


def recipe_command(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML).")],
) -> None:
    """Check a recipe file, and show it with every default written out."""
    from unet_studio.batch.recipe_file import check_recipe, recipe_text

    say(recipe_text(check_recipe(recipe), defaults=True).rstrip())


@contextmanager
def _progress() -> Iterator[tuple[Draw, Follow]]:
    """Yield a function that prints each item, and one for what goes on inside of one.

    On a terminal both draw bars; elsewhere the second one is quiet.
    """
    if not err.is_terminal:
        yield lambda result, report: _print(result, _count(report), report.total), _tell_of_workers
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("batch", total=None)
        inner = progress.add_task("", total=None, visible=False)

        def draw(result: ItemResult, report: BatchReport) -> None:
            _print(result, _count(report), report.total)
            words = f"{escape(_shown(result.name))}, {len(report.failed)} failed"
            progress.update(bar, description=words, completed=_count(report), total=report.total)
            progress.update(inner, visible=False)

        def follow(event: Event) -> None:
            if isinstance(event, Started):
                progress.reset(inner, description=f"  {event.stage}", total=event.total or None)
            elif isinstance(event, TileDone):
                progress.update(inner, completed=event.done, total=event.total, visible=True)
            else:
                _tell_of_workers(event)

        yield draw, follow


def _tell_of_workers(event: Event) -> None:
    """Print that there are no workers. What single images warn of is in their records."""
    from unet_studio.batch.cluster import NO_WORKERS

    if event == Warned(NO_WORKERS):
        warn(NO_WORKERS)


def _count(report: BatchReport) -> int:
    return report.done + report.skipped + len(report.failed)


def _print(result: ItemResult, number: int, total: int) -> None:
    if result.state == "failed":
        reason = result.reason if Path(result.name).name in result.reason else ""
        complain(_shown(reason or f"{result.name}: {result.reason}"))
    elif result.state == "done":
        say(f"[{number}/{total}] {_shown(result.name)}: {result.found} in {result.seconds:.1f} s")


def _shown(text: str) -> str:
    """Return text that keeps to one line, whatever characters a name has."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _sum_up(report: BatchReport, output: Path) -> None:
    from unet_studio.batch.table import TABLE

    say(
        f"{report.done} done, {report.skipped} complete already, {len(report.failed)} failed, of "
        f"{report.total}. {report.objects} objects in {output / TABLE}"
    )
    for problem in report.problems:
        complain(_shown(problem))
    if report.failed:
        names = [_shown(r.name) for r in report.failed[:_NAMED_FAILURES]]
        more = len(report.failed) - len(names)
        rest = f" and {more} more (see manifest.jsonl)" if more else ""
        complain(f"{len(report.failed)} of {report.total} images failed: {', '.join(names)}{rest}")
    if not report.ok:
        raise typer.Exit(SOME_FAILED)


def _preview(recipe: Recipe, plan: BatchPlan) -> int:
    """Print what would be read and written; return how many images can not be done."""
    from unet_studio.batch.preview import look_at
    from unet_studio.models.sources import card_of

    wrong = 0
    for seen in look_at(plan.tasks, recipe, card_of(recipe.model)):
        if seen.problem:
            wrong += 1
            complain(_shown(f"{seen.name}: {seen.problem}"))
        else:
            there = "; a result is there" * seen.there
            say(_shown(f"{seen.path} ({seen.words}{there}) -> {seen.target}"))
    for _, problem in plan.found.problems:
        complain(_shown(problem))
    results = f", {plan.found.results} results of earlier runs left out" * bool(plan.found.results)
    n = plan.found.parts
    parts = f", {n} files left out that are parts of an OME-TIFF of several" * bool(n)
    say(f"{len(plan.tasks) - wrong} images to do, {wrong} that can not be done{results}{parts}.")
    return wrong + len(plan.found.problems)
