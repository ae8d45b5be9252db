"""``unet-studio segment``: images in, label files out."""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_studio.cli.console import SOME_FAILED, complain, progress_of, say
from unet_studio.cli.flags import linking_of, recipe_of
from unet_studio.errors import ImageError, OutputError, UNetStudioError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unet_studio.models.model import Model
    from unet_studio.pipeline import Segmentation
    from unet_studio.recipe import Recipe
    from unet_studio.streaming import StreamedSegmentation


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes
    ----------
    files : tuple of Path
        Labels first, run record last.
    found : str
        What was found, in words: "57 objects".
    seconds : float
    """

    files: tuple[Path, ...]
    found: str
    seconds: float


def segment_command(
    images: Annotated[
        list[Path], typer.Argument(help="Image files, OME-Zarr folders, or folders of images.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name or path of the model.")
    ] = "nuclei",
    axes: Annotated[
        str | None,
        typer.Option(help="One letter out of T, C, Z, Y, X per dimension, such as ZYX."),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channels to use, counted from 0, such as 0 or 0,1,2.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    tile: Annotated[
        int | None, typer.Option(help="Edge of the tiles in pixels; chosen for you by default.")
    ] = None,
    quality: Annotated[
        str,
        typer.Option(help="exact, balanced or fast: what seams between tiles may change."),
    ] = "exact",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16 or float16: numbers to compute in.")
    ] = "auto",
    flips: Annotated[
        bool,
        typer.Option(
            "--flips", help="Average over mirror images: 4 times slower (3D models: 8 times)."
        ),
    ] = False,
    through_disk: Annotated[
        bool,
        typer.Option(
            "--through-disk",
            help="Keep intermediate results on the disk and write an OME-Zarr. Done by itself "
            "where memory is short.",
        ),
    ] = False,
    method: Annotated[
        str | None, typer.Option(help="Objects method; the model's own by default.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the objects method, such as min_size=30."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the network's probabilities, too.")
    ] = False,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="Link objects through time: each keeps its number over all frames."
        ),
    ] = False,
    min_overlap: Annotated[
        float | None,
        typer.Option(help="Link objects that share at least this part (0.3 if not given)."),
    ] = None,
    max_gap: Annotated[
        int | None,
        typer.Option(help="Link objects that are missing for up to so many frames (0)."),
    ] = None,
) -> None:
    """Segment images: labels, a table of objects, and a run record for each.

    Labels are called <stem>_labels and are of the same kind of file as the image.
    Linked objects of a time series have a table of their own, <stem>_tracks.csv.
    """
    from unet_studio.images.leftovers import remove_leftovers
    from unet_studio.images.writers import labels_paths

    linking = linking_of(link, min_overlap, max_gap)
    recipe = recipe_of(
        model, axes, channels, device, tile, method, option, linking, quality, precision, flips
    )
    sources, skipped = find_images(images)
    if skipped:
        say(f"{skipped} result{'s' * (skipped != 1)} of earlier runs left out.")
    _make_folder(output)
    remove_leftovers(output)
    targets = labels_paths(sources, output)
    from unet_studio.inference.devices import open_device
    from unet_studio.models.model import load_model

    loaded = load_model(recipe.model)
    open_device(recipe.device)  # an impossible device is refused once, not for each image
    failed = []
    for source, target in targets.items():
        try:
            outcome = segment_file(
                source,
                target,
                recipe,
                loaded,
                probabilities=probabilities,
                through_disk=through_disk,
            )
        except Exception as error:  # whatever is wrong with one image, the others are done
            failed.append(source)
            complain(_with_name(source, _explain(error)))
        else:
            say(f"{source.name}: {outcome.found} in {outcome.seconds:.1f} s, {outcome.files[0]}")
    if failed:
        names = ", ".join(f.name for f in failed)
        complain(f"{len(failed)} of {len(targets)} images failed: {names}")
        raise typer.Exit(SOME_FAILED)


def segment_file(
    source: Path,
    target: Path,
    recipe: Recipe,
    model: Model,
    *,
    probabilities: bool = False,
    through_disk: bool = False,
) -> Outcome:
    """Segment one file and write its results.

    Parameters
    ----------
    source, target : Path
        Image to read and labels to write.
    recipe : Recipe
    model : Model
    probabilities : bool
        Write the probabilities, too.
    through_disk : bool
        Hold nothing large in memory, and write an OME-Zarr whatever the target's
        family. Also done where the forecast says that memory will not do.

    Raises
    ------
    UNetStudioError
    """
    from unet_studio.images.readers import read_image
    from unet_studio.inference.plan import resolve
    from unet_studio.pipeline import drain, segment_steps
    from unet_studio.streaming import segment_to_zarr_steps

    began = time.perf_counter()
    volume = read_image(source, recipe.axes)
    with progress_of(source.name) as draw:
        if through_disk or resolve(recipe, model.card, volume.info).needs_streaming:
            target, kept = _on_disk(target, volume.metadata, probabilities)
            steps = segment_to_zarr_steps(volume, recipe, target, model=model, probabilities=kept)
            streamed: StreamedSegmentation = drain(steps, draw)
            files = write_tables(streamed, target, source, target, kept)
            return Outcome(files, _words(streamed), time.perf_counter() - began)
        result: Segmentation = drain(segment_steps(volume, recipe, model=model), draw)
    files = write_results(result, target, volume.metadata, source, probabilities=probabilities)
    return Outcome(files, _words(result), time.perf_counter() - began)


def _on_disk(target: Path, metadata: Any, probabilities: bool) -> tuple[Path, Path | None]:
    """Return where a streamed run writes labels and, if wanted, probabilities."""
    from unet_studio.images.writers import beside_labels, refuse_input

    target = beside_labels(target, "labels", ".ome.zarr")
    kept = beside_labels(target, "probabilities") if probabilities else None
    for path in filter(None, (target, kept)):
        refuse_input(path, metadata)
    return target, kept


def write_results(
    result: Segmentation,
    target: Path,
    metadata: Any,
    source: Path,
    *,
    probabilities: bool = False,
) -> tuple[Path, ...]:
    """Write labels, tables and run record of one result; return the files, labels first.

    The record is written last, and an old one is removed first: where it is, the
    rest is complete.

    Parameters
    ----------
    result : Segmentation
    target : Path
        Where the labels go; all other files are called after it.
    metadata : mapping
        That of the image.
    source : Path
        The image.
    probabilities : bool
        Write the probabilities, too.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    from unet_studio.images.writers import beside_labels, write_array, write_labels

    labels = write_labels(result.labels, result.axes, target, metadata=metadata)
    kept = None
    if probabilities:
        prediction, kept = result.prediction, beside_labels(target, "probabilities")
        kept = write_array(prediction.probabilities, prediction.axes, kept, metadata=metadata)
    return write_tables(result, target, source, labels, kept)


def write_tables(
    result: Segmentation | StreamedSegmentation,
    target: Path,
    source: Path,
    labels: Path,
    probabilities: Path | None,
) -> tuple[Path, ...]:
    """Write what goes beside the arrays of a result, the run record last.

    Parameters
    ----------
    result : Segmentation or StreamedSegmentation
    target : Path
        After which all files are called.
    source : Path
        The image.
    labels, probabilities : Path
        What was written already.

    Returns
    -------
    tuple of Path
        All files of the result, labels first.
    """
    from unet_studio.images.records import record_path
    from unet_studio.images.writers import beside_labels, disown, write_record
    from unet_studio.objects.measurements import units, write_table

    files = [labels]
    if result.measurements:
        table = beside_labels(target, "objects", ".csv")
        write_table(table, result.measurements, units(result.axes))
        files.append(table)
    if result.tracks:
        tracks = beside_labels(target, "tracks", ".csv")
        write_table(tracks, result.tracks)
        files.append(tracks)
    if probabilities is not None:
        files.append(probabilities)
    names = [f.name for f in files]
    disown(labels, names)
    record = {**result.record, "input": str(source), "outputs": names}
    files.append(write_record(record, record_path(labels)))
    return tuple(files)


def find_images(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Find the images among files and folders, each once, in a stable order.

    Files that are named are taken as they are, so that a wrong one is reported;
    of folders (not descended into) only what has an image's suffix is taken, and
    not the results of earlier runs: what a run record beside it lists.

    Returns
    -------
    images : list of Path
    skipped : int
        How many results were left out.

    Raises
    ------
    ImageError
        If something does not exist or there is no image at all.
    """
    from unet_studio.images.readers import is_image
    from unet_studio.images.records import without_results

    found: dict[Path, None] = {}
    skipped = 0
    for path in paths:
        if not path.exists():
            raise ImageError(f"There is no file or folder {path}. Check the name.")
        if not path.is_dir() or is_image(path):
            found[path] = None
            continue
        everything = sorted(path.iterdir())
        own = [p for p in without_results(everything) if is_image(p)]
        results = sum(map(is_image, everything)) - len(own)
        if not own:
            but = f" but {results} results of earlier runs" if results else ""
            raise ImageError(
                f"The folder {path} holds no image{but} (TIFF, OME-Zarr, NIfTI, PNG, JPEG)."
            )
        found.update(dict.fromkeys(own))
        skipped += results
    return list(found), skipped


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"The output {folder} is a file; give a folder with -o.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The output folder {folder} can not be made: {error.strerror or error}."
        ) from None
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The output folder {folder} can not be written to. Choose another.")


def _words(result: Segmentation | StreamedSegmentation) -> str:
    from unet_studio.objects.methods import METHODS

    count = result.object_count
    if METHODS.load(result.record["objects"]["method"]).makes_objects:
        linked = "linked " if result.tracks else ""
        return f"{count} {linked}object{'s' * (count != 1)}"
    return f"classes up to {count}"


def _explain(error: Exception) -> str:
    if isinstance(error, UNetStudioError | OSError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory. Close other programs, or segment a part of it."
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}. This is a defect of the program; please report it."


def _with_name(source: Path, message: str) -> str:
    return message if source.name in message else f"{source.name}: {message}"
