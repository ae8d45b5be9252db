"""``unet-studio segment``: images in, label files out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_studio.batch.results import (
    Outcome,
    explain,
    make_folder,
    stream_targets,
    with_intensities,
    with_name,
    words_of,
    write_results,
    write_tables,
)
from unet_studio.cli.console import SOME_FAILED, complain, progress_of, say
from unet_studio.cli.flags import given_flags, linking_of, recipe_from, recipe_of
from unet_studio.errors import ImageError
from unet_studio.events import drain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unet_studio.models.model import Model
    from unet_studio.pipeline import Segmentation
    from unet_studio.recipe import Recipe
    from unet_studio.streaming_results import StreamedSegmentation


def segment_command(
    context: typer.Context,
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
    as_channels: Annotated[
        bool,
        typer.Option(
            "--as-channels",
            help="The files are the channels of one image, in the order given: three MRI "
            "sequences, for example.",
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda (all GPUs), cuda:N, several as cuda:0,cuda:1, or mps."),
    ] = "auto",
    backend: Annotated[
        str,
        typer.Option(
            help="auto, torch or openvino: what runs the network. auto takes OpenVINO on a CPU "
            "where it is installed and measures faster with the same result."
        ),
    ] = "auto",
    tile: Annotated[
        int | None, typer.Option(help="Edge of the tiles in pixels; chosen for you by default.")
    ] = None,
    quality: Annotated[
        str,
        typer.Option(help="exact, balanced or fast: what seams between tiles may change."),
    ] = "exact",
    precision: Annotated[
        str,
        typer.Option(
            help="auto, float32, bfloat16, float16 or int8: numbers to compute in. int8, on the "
            "CPU, may change a few pixels in 1,000."
        ),
    ] = "auto",
    flips: Annotated[
        bool | None,
        typer.Option(
            "--flips/--no-flips",
            help="Average over mirror images, 4 times slower (3D models: 8 times), or not; "
            "by default as the model says.",
        ),
    ] = None,
    planes: Annotated[
        str,
        typer.Option(
            help="xy, or three: a 2D model looks at the XY, XZ and YZ planes of a stack, and its "
            "probabilities are averaged (3 times slower)."
        ),
    ] = "xy",
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
    recipe_file: Annotated[
        Path | None,
        typer.Option("--recipe", help="Take all settings from this file instead."),
    ] = None,
    save_recipe: Annotated[
        Path | None,
        typer.Option("--save-recipe", help="Write the settings to this file, for batches."),
    ] = None,
) -> None:
    """Segment images: labels, a table of objects, and a run record for each.

    Labels are called <stem>_labels and are of the same kind of file as the image.
    Linked objects of a time series have a table of their own, <stem>_tracks.csv.
    """
    from unet_studio.images.leftovers import remove_leftovers
    from unet_studio.images.writers import labels_paths

    if recipe_file is not None:
        recipe = recipe_from(recipe_file, given_flags(context), device)
    else:
        linking = linking_of(link, min_overlap, max_gap)
        recipe = recipe_of(
            model, axes, channels, device, tile, method, option, linking, quality, precision,
            flips, planes, backend,
        )  # fmt: skip
    if save_recipe is not None:
        from unet_studio.batch.recipe_file import save_recipe as write

        write(recipe, save_recipe)
    sources, skipped = find_images(images)
    if skipped:
        say(f"{skipped} result{'s' * (skipped != 1)} of earlier runs left out.")
    make_folder(output)
    remove_leftovers(output)
    targets = labels_paths(sources, output)
    if as_channels:
        targets = dict(list(targets.items())[:1])
    from unet_studio.inference.choice import planned_device
    from unet_studio.models.model import load_model

    planned_device(recipe)  # what is impossible is refused once, not for each image
    loaded = load_model(recipe.model)
    failed = []
    for source, target in targets.items():
        try:
            outcome = segment_file(
                source,
                target,
                recipe,
                loaded,
                further=tuple(sources[1:]) if as_channels else (),
                probabilities=probabilities,
                through_disk=through_disk,
            )
        except Exception as error:  # whatever is wrong with one image, the others are done
            failed.append(source)
            complain(with_name(source, explain(error)))
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
    further: Sequence[Path] = (),
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
    further : sequence of Path
        Images that are further channels of the first.
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
    from unet_studio.images.stacking import stack_channels
    from unet_studio.inference.plan import resolve
    from unet_studio.pipeline import segment_steps
    from unet_studio.streaming import segment_to_zarr_steps

    began = time.perf_counter()
    extra = {"further_inputs": [str(path) for path in further]} if further else None
    volume = read_image(source, recipe.axes)
    if further:
        volume = stack_channels([volume, *(read_image(path, recipe.axes) for path in further)])
    with progress_of(source.name) as draw:
        if through_disk or resolve(recipe, model.card, volume.info).needs_streaming:
            target, kept = stream_targets(target, volume.metadata, probabilities)
            steps = segment_to_zarr_steps(volume, recipe, target, model=model, probabilities=kept)
            streamed: StreamedSegmentation = with_intensities(drain(steps, draw), volume)
            files = write_tables(streamed, target, source, target, kept, extra=extra)
            return Outcome(files, words_of(streamed), time.perf_counter() - began)
        held: Segmentation = drain(segment_steps(volume, recipe, model=model), draw)
    result = with_intensities(held, volume)
    files = write_results(
        result, target, volume.metadata, source, probabilities=probabilities, extra=extra
    )
    return Outcome(files, words_of(result), time.perf_counter() - began)


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
                f"The folder {path} holds no image{but} (TIFF, OME-Zarr, NIfTI, PNG, JPEG). Check "
                "the path."
            )
        found.update(dict.fromkeys(own))
        skipped += results
    return list(found), skipped
