"""``unet-studio evaluate``: how good labels are, measured against the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_studio.axes import AmbiguousAxes
from unet_studio.cli.console import SOME_FAILED, complain, out
from unet_studio.errors import ImageError, UNetStudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from unet_studio.objects.evaluation import ClassScores, Scores

_LABELS_SUFFIX = "_labels"


class _Report:
    """What has been found so far; ``scores`` or ``classes`` by name of the pair."""

    def __init__(self, failed: dict[str, str]) -> None:
        self.scores: dict[str, Scores] = {}
        self.classes: dict[str, tuple[ClassScores, ...]] = {}
        self.failed = failed


def evaluate_command(
    labels: Annotated[
        Path, typer.Argument(help="Label image, or a folder of them.", show_default=False)
    ],
    truth: Annotated[
        Path,
        typer.Argument(
            help="The true labels: an image, or a folder of images of the same names. "
            "'_labels' at the end of a name does not count.",
            show_default=False,
        ),
    ],
    classes: Annotated[
        bool,
        typer.Option("--classes", help="The numbers are classes, not objects: Dice, IoU of each."),
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all scores to this file as JSON, too.")
    ] = None,
) -> None:
    """Compare labels with the truth: IoU, Dice, AP at IoU 0.5 to 0.95, precision, recall, F1, PQ.

    Exit codes: 0 all compared, 1 could not start, 2 some pairs failed (they are named).
    """
    pairs, lonely = find_pairs(labels, truth)
    report = _Report(failed=dict(lonely))
    for name, (found, real) in pairs.items():
        try:
            _compare(report, name, found, real, classes)
        except (UNetStudioError, OSError, MemoryError) as error:
            report.failed[name] = str(error) or type(error).__name__
    for table in [*_objects_tables(report.scores), *_classes_tables(report.classes)]:
        out.print(table, soft_wrap=False)
    for name, message in report.failed.items():
        complain(f"{name}: {message}")
    if json_path is not None:
        try:
            _write_json(json_path, report)
        except UNetStudioError as error:
            complain(str(error))
            raise typer.Exit(SOME_FAILED) from None
    if report.failed:
        done = len(report.scores) + len(report.classes)
        complain(f"{done} compared, {len(report.failed)} failed.")
        raise typer.Exit(SOME_FAILED)


def find_pairs(labels: Path, truth: Path) -> tuple[dict[str, tuple[Path, Path]], dict[str, str]]:
    """Find which files belong together.

    Returns
    -------
    pairs : dict of str to (Path, Path)
        Common name to label image and truth, by name.
    lonely : dict of str to str
        Name to message, for images without a partner.

    Raises
    ------
    ImageError
        If a path does not exist, one is a folder and the other is not, or
        there is nothing to compare.
    """
    for path in (labels, truth):
        if not path.exists():
            raise ImageError(f"There is no file or folder {path}. Check the spelling.")
    folders = [_is_folder(path) for path in (labels, truth)]
    if not any(folders):
        return {labels.name: (labels, truth)}, {}
    if not all(folders):
        folder, file = (labels, truth) if folders[0] else (truth, labels)
        raise ImageError(
            f"{folder} is a folder, but {file} is a file. Give two files or two folders."
        )
    found, real = _by_name(labels), _by_name(truth)
    if not found.keys() & real.keys():
        raise ImageError(
            f"No image in {labels} has the name of one in {truth} ('{_LABELS_SUFFIX}' at the end "
            "does not count). Check the two folders."
        )
    lonely = {
        name: f"{real[name]} has no partner in {labels}." for name in real.keys() - found.keys()
    } | {name: f"{found[name]} has no partner in {truth}." for name in found.keys() - real.keys()}
    pairs = {name: (found[name], real[name]) for name in sorted(found.keys() & real.keys())}
    return pairs, dict(sorted(lonely.items()))


def _is_folder(path: Path) -> bool:
    from unet_studio.images.readers import is_image

    return path.is_dir() and not is_image(path)


def _by_name(folder: Path) -> dict[str, Path]:
    from unet_studio.images.formats import split_suffix
    from unet_studio.images.readers import is_image

    named: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path):
            continue
        name = split_suffix(path)[0].removesuffix(_LABELS_SUFFIX)
        if name in named:
            raise ImageError(
                f"{named[name].name} and {path.name} in {folder} both count as {name!r}. "
                "Move one of them away."
            )
        named[name] = path
    return named


def _read_labels(path: Path) -> NDArray[np.generic]:
    from unet_studio.images.palette import numbers_of
    from unet_studio.images.readers import read_image

    try:
        volume = read_image(path)
    except AmbiguousAxes as question:
        # A score is the same whichever axis is depth or time.
        volume = read_image(path, question.candidates[0])
    volume = numbers_of(volume)  # of labels in colours, the palette's numbers are the labels
    if volume.info.channels != 1:
        raise ImageError(
            f"{path} has {volume.info.channels} channels. Labels have one, in which each number "
            "is an object or class; is this the image instead?"
        )
    return volume.read().squeeze(1 if "T" in volume.axes else 0)


def _compare(report: _Report, name: str, found: Path, real: Path, classes: bool) -> None:
    from unet_studio.objects.evaluation import evaluate, evaluate_classes

    pair = _read_labels(found), _read_labels(real)
    if classes:
        report.classes[name] = evaluate_classes(*pair)
    else:
        report.scores[name] = evaluate(*pair)


def _new_table(title: str, first: str, *numbers: str) -> Table:
    """Return an empty table that fits 80 columns: the first column wraps if it must."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column(first, overflow="fold")
    for header in numbers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _objects_tables(scores: dict[str, Scores]) -> list[Table]:
    """Return a line for each image, and all scores of all images together."""
    from rich.markup import escape

    from unet_studio.objects.evaluation import THRESHOLDS, pool

    if not scores:
        return []
    together = pool(scores.values())
    name = f"All {len(scores)} together" if len(scores) > 1 else next(iter(scores))
    full = _new_table(name, "score", "value")
    for words, count in {
        "objects in the labels": together.found,
        "objects in the truth": together.truth,
        "matched at IoU 0.5": together.matched[0],
    }.items():
        full.add_row(words, str(count))
    for words, value in {
        "foreground IoU": together.iou,
        "foreground Dice": together.dice,
        "precision at IoU 0.5": together.precision(),
        "recall at IoU 0.5": together.recall(),
        "F1 at IoU 0.5": together.f1(),
        "mean IoU of the matched (SQ)": together.mean_matched_iou,
        "panoptic quality (PQ)": together.pq,
        **{f"AP at IoU {t:g}": together.ap(t) for t in THRESHOLDS},
        "AP, mean of these": together.mean_ap,
    }.items():
        full.add_row(words, f"{value:.3f}")
    if len(scores) == 1:
        return [full]
    each = _new_table("Each image", "image", "labels", "truth", "Dice", "F1", "AP@0.5", "PQ")
    for name, s in scores.items():
        values = (s.dice, s.f1(), s.ap(), s.pq)
        each.add_row(escape(name), str(s.found), str(s.truth), *(f"{v:.3f}" for v in values))
    return [each, full]


def _classes_tables(classes: dict[str, tuple[ClassScores, ...]]) -> list[Table]:
    """Return Dice and IoU of every class, of each image and of all together."""
    from rich.markup import escape

    from unet_studio.objects.evaluation import pool_classes

    if not classes:
        return []
    rows = dict(classes)
    if len(classes) > 1:
        rows[f"all {len(classes)} together"] = pool_classes(classes.values())
    table = _new_table("Classes", "image", "class", "Dice", "IoU", "pixels", "truth")
    for name, scores in rows.items():
        for s in scores:
            values = (f"{s.dice:.3f}", f"{s.iou:.3f}", str(s.found_pixels), str(s.truth_pixels))
            table.add_row(escape(name), str(s.label), *values)
        table.add_section()
    return [table]


def _write_json(path: Path, report: _Report) -> None:
    from unet_studio.images.atomic import atomic_file
    from unet_studio.objects.evaluation import pool, pool_classes

    def plain(scores: tuple[ClassScores, ...]) -> dict[str, Any]:
        return {str(s.label): {"dice": s.dice, "iou": s.iou} for s in scores}

    content: dict[str, Any] = {"failed": report.failed}
    if report.scores:
        content["together"] = pool(report.scores.values()).as_dict()
        content["images"] = {name: s.as_dict() for name, s in report.scores.items()}
    if report.classes:
        content["together"] = plain(pool_classes(report.classes.values()))
        content["images"] = {name: plain(s) for name, s in report.classes.items()}
    with atomic_file(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode())
