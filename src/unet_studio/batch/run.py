"""Run a recipe over many images; may be killed at any moment and run again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unet_studio.batch.inside import check_name, place_inside
from unet_studio.batch.items import FoundItems, find_items
from unet_studio.batch.job import ItemResult, Job, Task, finished_record
from unet_studio.batch.keys import recipe_key
from unet_studio.batch.manifest import MANIFEST, append_line
from unet_studio.batch.overlays import SHEET, write_sheets
from unet_studio.batch.recipe_check import check_fit
from unet_studio.batch.results import make_folder
from unet_studio.batch.stages import (
    Opened,
    Predicted,
    finish_item,
    finished_result,
    open_item,
    predict_item,
)
from unet_studio.batch.table import PARQUET, TABLE, check_parquet, join_tables, write_parquet
from unet_studio.batch.targets import plan_targets
from unet_studio.errors import Cancelled, OutputError, SchedulerLost, UNetStudioError
from unet_studio.events import CancelToken, Event
from unet_studio.user_paths import user_path

if TYPE_CHECKING:
    from unet_studio.models.model import Model
    from unet_studio.recipe import Recipe

# Images that wait read, and predictions that wait for their objects.
_AHEAD, _BEHIND = 2, 2
# Pixels (voxels) of an image that is worth to be shared out.
SPLIT_ABOVE = 64_000_000


@dataclass
class BatchReport:
    """What became of a batch.

    Attributes
    ----------
    total : int
        Number of items.
    done, skipped : int
        Items that were done now, and those that were complete already.
    failed : list of ItemResult
        Each with its reason.
    objects : int
        Rows of the table of all objects.
    problems : list of str
        What else went wrong, such as a folder that could not be read.
    """

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: list[ItemResult] = field(default_factory=list)
    objects: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every item is complete."""
        return not self.failed and not self.problems


@dataclass(frozen=True)
class BatchPlan:
    """What a batch will read and write."""

    tasks: list[Task]
    found: FoundItems


def plan_batch(
    inputs: Sequence[Path | str], output: Path | str, *, into_zarr: str = ""
) -> BatchPlan:
    """Find the images of a batch and where their results go, without writing anything.

    Parameters
    ----------
    inputs, output, into_zarr
        As for :func:`run_batch`.

    Raises
    ------
    ImageError
        If an input does not exist, or there is no image.
    RecipeError
        If labels in an OME-Zarr can not be called so.
    """
    # Whole paths: workers, and whoever reads record or manifest, may be in another folder.
    output = user_path(output).absolute()
    if into_zarr:
        check_name(into_zarr)
    found = find_items(inputs, output)
    tasks = [
        Task(item, target, place_inside(item, into_zarr) if into_zarr else None)
        for item, target in plan_targets(found.items, output).items()
    ]
    return BatchPlan(tasks, found)


def run_batch(
    recipe: Recipe | Path | str,
    inputs: Sequence[Path | str],
    output: Path | str,
    *,
    probabilities: bool = False,
    through_disk: bool = False,
    redo: bool = False,
    parquet: bool = False,
    overlays: bool = False,
    into_zarr: str = "",
    workers: int | None = None,
    scheduler: str | None = None,
    split_above: int = SPLIT_ABOVE,
    token: CancelToken | None = None,
    on_result: Callable[[ItemResult, BatchReport], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> BatchReport:
    """Segment many images with one recipe.

    The output mirrors the tree of the inputs. It also gets ``objects.csv``, a table of all
    objects, and ``manifest.jsonl``, to which each run adds what it did. Items that are
    complete (same recipe, model and input) are skipped; so a run that was stopped or killed
    is taken up by running it again.

    Parameters
    ----------
    recipe : Recipe, or path of a recipe file
    inputs : sequence of Path or str
        As for :func:`unet_studio.batch.items.find_items`.
    output : Path or str
        Folder for the results.
    probabilities : bool
        Write the probabilities, too.
    through_disk : bool
        Hold nothing large in memory, and write OME-Zarrs.
    redo : bool
        Do complete items again.
    parquet : bool
        Write ``objects.parquet``, too.
    overlays : bool
        Write a small picture of each result on its image, and ``contact_sheet.png``, on
        which a person can scan them.
    into_zarr : str
        Write the labels of images that are OME-Zarr 0.5 into them, as ``labels/<into_zarr>``.
        Nothing else in them is touched; tables and records go to ``output``.
    workers : int, optional
        So many processes on this machine, by dask.
    scheduler : str, optional
        Address of a dask scheduler, such as ``"tcp://node1:8786"``. Its workers have to
        see the inputs, the output and the model under the same paths.
    split_above : int
        Images of more pixels (voxels) than this, whose labels go to an OME-Zarr, are cut
        and done by all workers together; 0 for none. The labels are the same.
    token : CancelToken, optional
        Looked at between tiles, items, and blocks of the objects step. Set, too, when
        the batch ends early for another reason.
    on_result, on_event : callable, optional
        Called with each item's result and the report so far, and with the events of runs
        in this process and of images that all workers do together.

    Returns
    -------
    BatchReport

    Raises
    ------
    UNetStudioError
        If it can not start, or was cancelled. What is wrong with single items is reported.
    """
    from unet_studio.batch.recipe_file import load_recipe
    from unet_studio.models.model import load_model

    if isinstance(recipe, Path | str):
        recipe = load_recipe(recipe)
    output = user_path(output).absolute()
    if parquet:
        check_parquet()
    plan = plan_batch(inputs, output, into_zarr=into_zarr)
    make_folder(output)
    _refuse_strangers(output)
    model = load_model(recipe.model)
    # What is impossible is refused once, not for each image.
    check_fit(recipe, model.card, through_disk=through_disk)
    job = Job(
        recipe, model.sha256, probabilities, through_disk, redo, overlays, into_zarr,
        card=model.card,
    )  # fmt: skip
    token = token or CancelToken()
    if workers or scheduler:
        from unet_studio.batch.cluster import run_on_cluster

        job = replace(job, split_above=split_above)
        results = run_on_cluster(plan.tasks, job, workers, scheduler, token, on_event)
    else:
        results = _run_here(plan.tasks, job, model, token, on_event)
    return _collect(plan, job, output, results, parquet, on_result)


def _refuse_strangers(output: Path) -> None:
    """Refuse a folder whose files of our names are not ours."""
    if (output / MANIFEST).is_file():
        return
    for name in (TABLE, PARQUET, SHEET):
        if (output / name).exists():
            raise OutputError(
                f"{output / name} exists and is not of an earlier batch, so it stays. Move it "
                "away or choose another output folder."
            )


def _collect(
    plan: BatchPlan,
    job: Job,
    output: Path,
    results: Iterator[ItemResult],
    parquet: bool,
    on_result: Callable[[ItemResult, BatchReport], None] | None,
) -> BatchReport:
    report = BatchReport(len(plan.tasks), problems=[text for _, text in plan.found.problems])
    folders = {output, *(task.target.parent for task in plan.tasks)}
    folders |= {task.inside.parent for task in plan.tasks if task.inside is not None}
    _clear(folders)
    append_line(
        output, "started", items=len(plan.tasks), model_sha256=job.model_sha256,
        recipe=job.recipe.model_dump(mode="json"), key=recipe_key(job),
    )  # fmt: skip
    ended: dict[str, ItemResult] = {}
    try:
        for result in results:
            ended[result.name] = result
            _note(result, report, output)
            if on_result is not None:
                on_result(result, report)
    except (Cancelled, KeyboardInterrupt):
        if isinstance(results, Generator):
            results.close()  # waits until nothing is written any more
        _clear(folders)
        rest = [task for task in plan.tasks if task.item.name not in ended]
        ended.update((r.name, r) for r in _of_earlier_runs(rest, job))
        _finish(plan, job, output, ended, report, parquet, "cancelled")
        raise
    except SchedulerLost as error:  # the others can be done another time
        left = len(plan.tasks) - len(ended)
        report.problems.append(f"{error} {left} of {len(plan.tasks)} images are left.")
    _clear(folders)  # of workers that died
    _finish(plan, job, output, ended, report, parquet, "ended")
    return report


def _note(result: ItemResult, report: BatchReport, output: Path) -> None:
    if result.state == "failed":
        report.failed.append(result)
    elif result.state == "done":
        report.done += 1
    else:
        report.skipped += 1
    with suppress(OutputError):  # a full disk: the item itself says so
        append_line(output, "item", **asdict(result))


def _of_earlier_runs(tasks: Sequence[Task], job: Job) -> Iterator[ItemResult]:
    """Yield complete results of this recipe that a cancelled run did not come to.

    Whether the images are the same as they were is for the next run to see: reading them
    all would take too long for somebody who cancels.
    """
    of = recipe_key(job)
    for task in tasks:
        finished = finished_record(task.target, inside=task.inside)
        if finished is not None and finished[1]["batch"].get("recipe_key") == of:
            yield finished_result(task, *finished)


def _finish(
    plan: BatchPlan,
    job: Job,
    output: Path,
    ended: dict[str, ItemResult],
    report: BatchReport,
    parquet: bool,
    event: str,
) -> None:
    """Write what is of all items: the table, the sheets, and the last line of the manifest."""
    try:
        ordered = [ended[t.item.name] for t in plan.tasks if t.item.name in ended]
        report.objects = join_tables([(r.name, Path(r.table)) for r in ordered if r.table], output)
        if parquet:
            write_parquet(output)
        if job.overlays:
            write_sheets(ordered, output)
        append_line(
            output, event, done=report.done, skipped=report.skipped, failed=len(report.failed)
        )
    except UNetStudioError as error:
        report.problems.append(str(error))


def _clear(folders: set[Path]) -> None:
    from unet_studio.images.leftovers import remove_leftovers

    for folder in sorted(folders):
        with suppress(OSError):
            remove_leftovers(folder)


def _run_here(
    tasks: Sequence[Task],
    job: Job,
    model: Model,
    token: CancelToken,
    on_event: Callable[[Event], None] | None,
) -> Iterator[ItemResult]:
    """Do the items in this process: one is read and one finished while one is predicted."""
    reading, finishing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    opened: deque[Future[Opened | ItemResult]] = deque()
    ending: deque[Future[ItemResult]] = deque()
    waiting = iter(tasks)
    try:
        while True:
            while len(opened) < _AHEAD and (task := next(waiting, None)) is not None:
                opened.append(reading.submit(open_item, task, job))
            if not opened:
                break
            token.raise_if_cancelled()
            ready = opened.popleft().result()
            state = _predicted(ready, job, model, token, on_event)
            if isinstance(state, ItemResult):
                yield state
                continue
            ending.append(finishing.submit(finish_item, state, job, token))
            while len(ending) > (0 if state.large else _BEHIND):
                yield ending.popleft().result()
        while ending:
            yield ending.popleft().result()
    except BaseException:  # cancelled, Ctrl-C, or whoever takes the results has gone
        token.cancel()
        raise
    finally:
        # What is being written is finished; what waits is left for the next run.
        for pool in (reading, finishing):
            pool.shutdown(wait=True, cancel_futures=True)


def _predicted(
    ready: Opened | ItemResult,
    job: Job,
    model: Model,
    token: CancelToken,
    on_event: Callable[[Event], None] | None,
) -> Predicted | ItemResult:
    if isinstance(ready, ItemResult):
        return ready
    return predict_item(ready, job, model, token, on_event)
