"""``unet-studio refine``: images and painted labels in, a better model out, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_studio.cli.console import SOME_FAILED, complain, progress_of, say, warn
from unet_studio.errors import ModelError

if TYPE_CHECKING:
    from unet_studio.training.refine import Refined


def refine_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE LABELS [IMAGE LABELS]...",
            help="Images, each followed by what was painted on it: 0 not annotated, 1 "
            "background, 2 and up the model's classes.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of the new model (.safetensors).")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model to start from: a name, a path, or random:unet-slim."
        ),
    ] = "nuclei",
    corrects: Annotated[
        str | None,
        typer.Option(
            help="Model on whose result the latest strokes were painted, such as the last "
            "refined one: what it finds where nobody painted is learned, too."
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(help="classes, or objects: every number from 2 on is an object of its own."),
    ] = "classes",
    classes: Annotated[
        str | None,
        typer.Option(
            help="Make a model of other classes: one name, such as mitochondrion, or several "
            "with the background first, such as background,membrane,vesicle."
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="One letter out of T, C, Z, Y, X per dimension, such as ZYX."),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channels to use, counted from 0, such as 0 or 0,1,2.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for training.")] = 60.0,
    steps: Annotated[
        int | None,
        typer.Option(help="So many steps instead: then a seed fixes the result."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes what is drawn at random.")] = 0,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse/--forget",
            help="Keep what the model knows on the bundled sample images, or let it go.",
        ),
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    report: Annotated[
        Path | None, typer.Option(help="Write the record of the training as JSON.")
    ] = None,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Keep the new model under its name even if it is worse."),
    ] = False,
) -> None:
    """Refine a model from a few painted strokes, and say whether it got better.

    Part of what was painted is held back and both models are compared on it. A model
    that is worse is kept as <name>.candidate.safetensors, and the exit code is 2. The
    model that it started from stays as it is.
    """
    images, labels = _split(files)
    _check_output(output)
    from unet_studio.cli.flags import channel_numbers
    from unet_studio.training.refine import refine

    options: dict[str, Any] = {} if rehearse else {"rehearse": 0}
    with progress_of(output.name) as draw:
        refined = refine(
            images,
            labels,
            model,
            corrects=corrects,
            axes=axes,
            mode=mode,
            classes=tuple(c.strip() for c in classes.split(",")) if classes else None,
            channels=channel_numbers(channels),
            device=device,
            name=output.stem,
            on_event=draw,
            seconds=seconds,
            steps=steps,
            seed=seed,
            **options,
        )
    _keep(refined, output, report, accept)


def _split(files: list[Path]) -> tuple[list[Path], list[Path]]:
    if len(files) % 2:
        raise typer.BadParameter("give images and labels in turn: IMAGE LABELS [IMAGE LABELS]...")
    return files[::2], files[1::2]


def _check_output(output: Path) -> None:
    """Refuse a name that could not be written before a minute is spent."""
    from unet_studio.models.files import SUFFIX

    if output.suffix != SUFFIX:
        raise ModelError(f"{output.name} should end in {SUFFIX}.")
    if output.exists():
        raise ModelError(f"{output} exists and stays as it is. Choose another name.")


def _keep(refined: Refined, output: Path, report: Path | None, accept: bool) -> None:
    from unet_studio.models.model import save_model

    verdict = refined.verdict
    worse = verdict.finding == "worse" and not accept
    path = output.with_suffix(f".candidate{output.suffix}") if worse else output
    save_model(refined.model, path)
    if report is not None:
        _write_report(report, refined)
    training: dict[str, Any] = refined.record["refined"]
    say(f"{verdict.finding}: {verdict.reason}")
    if verdict.kept is not None:
        say(f"Kept of what the old model was sure of, unpainted: {100 * verdict.kept:.0f} %.")
    if verdict.agreement is not None:
        say(f"Agreement with the old model on the sample images: {100 * verdict.agreement:.0f} %.")
    say(f"{training['steps']} steps in {training['seconds']:.0f} s, {path}")
    if worse:
        complain(
            f"The new model is worse, so it was kept as {path.name} only. Look at its result, "
            "paint more, or keep it with --accept."
        )
        raise typer.Exit(SOME_FAILED)
    if verdict.finding != "better":
        warn("Look at its result before you use it.")


def _write_report(path: Path, refined: Refined) -> None:
    from unet_studio.images.atomic import atomic_file

    content = {**refined.record, "curve": refined.curve, "warnings": refined.warnings}
    with atomic_file(path) as stream:
        stream.write(json.dumps(content, indent=2).encode())
