"""``unet-studio models export``: a model for other programs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_studio.cli.console import say
from unet_studio.models.exporting import Details, ExportRequest, Kind, export_model, kind_of_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.models.card import ModelCard


def export_command(
    name: Annotated[str, typer.Argument(help="Name or path of a model.")],
    target: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write: .zip, .onnx, .pt or .safetensors."),
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--to",
            help="Package of the BioImage Model Zoo, the bare network as ONNX or TorchScript, "
            "or a model file of U-Net Studio. By default the ending of the file tells.",
            show_default=False,
        ),
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option("--example", help="Image for the package's test data and cover."),
    ] = None,
    author: Annotated[
        list[str] | None,
        typer.Option("--author", help="Name of an author of the package. Can be repeated."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="SPDX identifier, such as CC-BY-4.0.")
    ] = None,
    maintainer: Annotated[
        str | None, typer.Option("--maintainer", help="GitHub user name of who maintains it.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing file.")] = False,
) -> None:
    """Write a model for other programs. Nothing is uploaded."""
    request = ExportRequest(
        reference=name,
        target=target,
        kind=kind or kind_of_target(target),
        example=None if example is None else partial(read_example, example),
        details=Details(tuple(author or ()), licence, maintainer),
        replace=replace,
    )
    for sentence in export_model(request):
        say(sentence)


def read_example(path: Path, card: ModelCard) -> NDArray[Any]:
    """Read an image as a model takes it: axes (C, [Z,] Y, X).

    Raises
    ------
    AxesError, ImageError
        If it does not fit the model.
    """
    import numpy as np

    from unet_studio.images.readers import read_image
    from unet_studio.inference.channels import map_channels

    volume = read_image(path)
    channels = map_channels(None, card, volume.info)
    region = {"T": 0} if "T" in volume.axes else {}
    if "Z" in volume.axes and card.ndim == 2:
        region["Z"] = volume.info.length("Z") // 2
    block = volume.read(region, channels.channels)
    return np.asarray(channels.expand(channels.mix(block)))
