"""``unet-studio models encoders`` and ``… new``: choose what a new model is made of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from unet_studio.cli.console import download_progress, out, say, warn

if TYPE_CHECKING:
    from unet_studio.models.encoder_files import WeightsOffer
    from unet_studio.models.encoders import Encoder
    from unet_studio.models.importing import Imported

_MEGA = 1e6
_SHOWN_TAGS = 4


def encoders_command(
    search: Annotated[
        str, typer.Option("--search", "-s", help="Words that an encoder's name must hold.")
    ] = "",
    family: Annotated[
        str, typer.Option("--family", "-f", help="Beginning of a family's name.")
    ] = "",
) -> None:
    """List the encoders that a new model can have; without options, their families."""
    from unet_studio.models.encoders import families, search_encoders

    if not search and not family:
        out.print(_families(families()))
        say("\nSee more with --search TEXT or --family NAME. Nothing is downloaded by looking.")
        return
    found = search_encoders(search, family)
    if not found:
        say(f"No encoder matches {' '.join(filter(None, (search, family)))!r}.")
        return
    out.print(_encoders(found))
    say(
        "\nParameters are the encoder's own; memory is that of a forward pass under a U-Net "
        "decoder, fp32. Licences are those of the weights, as stated where they come from."
    )


def new_command(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    architecture: Annotated[
        str,
        typer.Option("--architecture", "-a", help="Architecture or preset, such as smp-fpn."),
    ] = "smp-unet",
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="Encoder, for architectures that begin with smp-."),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            "-w",
            help="random, imagenet or another name of the encoder's weights, the path of a file "
            "with them, or inflate:MODEL for a 3D U-Net from a 2D one.",
        ),
    ] = "random",
    channels: Annotated[
        int, typer.Option("--channels", "-c", min=1, help="Channels of the images.")
    ] = 1,
    rgb: Annotated[
        bool, typer.Option("--rgb", help="The channels are red, green and blue; grey works too.")
    ] = False,
    dimensions: Annotated[
        int, typer.Option("--dimensions", "-d", min=2, max=3, help="2 or 3.")
    ] = 2,
    finds: Annotated[str, typer.Option("--finds", help="objects, binary or classes.")] = "objects",
    classes: Annotated[
        str,
        typer.Option("--classes", help="Names, by commas; in classes, background first."),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of the random weights.")] = 0,
    download: Annotated[
        bool, typer.Option("--download", help="Download trained weights that are not here.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write this file instead of one in your store."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a model of the same name.")
    ] = False,
) -> None:
    """Make a new model, to be trained: any architecture, encoder and weights."""
    from unet_studio.models.creating import NewModel, create_model

    new = NewModel(
        architecture if encoder is None else f"{architecture}/{encoder}",
        weights=weights,
        in_channels=3 if rgb else channels,
        ndim=dimensions,
        representation=finds,
        classes=tuple(part.strip() for part in classes.split(",")) if classes else None,
        colour=rgb,
        seed=seed,
    )
    _announce(new.preset, fetch := new.to_fetch())
    if fetch is not None and not download and sys.stdin.isatty():
        download = typer.confirm("Download it?", err=True)
    with download_progress(name) as tell:
        made = create_model(
            name, new, output=output, replace=replace, download=download, tell=tell
        )
    _report(made)


def _announce(preset: str, what: WeightsOffer | None) -> None:
    """Say what will be downloaded, from where and under which licence."""
    if what is not None:
        licence = what.weights.licence
        say(f"The weights {what.weights.tag!r} for {preset} are not on this computer.")
        say(f"From {what.url} (licence of the weights: {licence}).")


def _report(made: Imported) -> None:
    for note in made.notes:
        say(note)
    card = made.entry.card
    memory = card.bytes_per_pixel
    say(
        f"Made {made.entry.name!r}: {card.parameters / _MEGA:.1f} million parameters, "
        f"{memory:,.0f} bytes per pixel, licence {card.licence}."
    )
    say(f"{made.entry.path}")
    warn("it is not trained: it finds nothing yet.")


def _families(names: tuple[str, ...]) -> Table:
    from unet_studio.models.encoders import search_encoders

    table = Table(box=None, header_style="bold")
    for heading in ("family", "encoders", "million parameters"):
        table.add_column(heading)
    for name in names:
        members = [e for e in search_encoders(family=name) if e.family == name]
        sizes = sorted(e.parameters / _MEGA for e in members)
        span = f"{sizes[0]:.1f}" if len(sizes) == 1 else f"{sizes[0]:.1f} – {sizes[-1]:.1f}"
        table.add_row(escape(name), str(len(members)), span)
    return table


def _encoders(found: tuple[Encoder, ...]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("encoder", no_wrap=True, min_width=max(len(e.name) for e in found))
    for heading in ("family", "M param.", "MB/megapixel", "weights", "licence"):
        table.add_column(heading, overflow="fold")  # tags are to be copied, too
    for encoder in found:
        tags = [w.tag for w in encoder.weights]
        more = len(tags) - _SHOWN_TAGS
        shown = ", ".join(tags[:_SHOWN_TAGS]) + (f" and {more} more" if more > 0 else "")
        licences = dict.fromkeys(w.licence for w in encoder.weights)
        table.add_row(
            escape(encoder.name),
            escape(encoder.family),
            f"{encoder.parameters / _MEGA:.1f}",
            f"{encoder.bytes_per_pixel:.0f}",
            escape(shown) or "random only",
            escape("; ".join(licences)),
        )
    return table
