"""``unet-studio models``: which models are here, and what each is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from unet_studio.cli.console import out, say

if TYPE_CHECKING:
    from unet_studio.models.store import ModelEntry

models_app = typer.Typer(help="List and describe models.", no_args_is_help=True)


@models_app.command("list")
def list_command() -> None:
    """List the models that are here: bundled ones, and your own."""
    from unet_studio.models.store import list_models, models_folder

    table = Table(box=None, header_style="bold")
    for heading in ("name", "finds", "input", "", "parameters", "licence", "from"):
        table.add_column(heading)
    for entry in list_models():
        card = entry.card
        table.add_row(
            entry.name,
            escape(", ".join(card.classes)),
            "grey or RGB" if card.colour else _channels(card.in_channels),
            f"{card.ndim}D",
            f"{card.parameters:,}",
            escape(card.licence),
            entry.origin,
        )
    out.print(table)
    say(f"Your own model files go into {models_folder()}")


@models_app.command("info")
def info_command(
    name: Annotated[str, typer.Argument(help="Name or path of a model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Describe one model."""
    from unet_studio.models.store import find_model

    entry = find_model(name)
    if as_json:
        typer.echo(entry.card.model_dump_json(indent=2))
        return
    facts = describe(entry)
    width = max(map(len, facts))
    for key, value in facts.items():  # whole lines: a path can be copied from them
        out.print(f"[bold]{key:<{width}}[/]  {escape(value)}")


def describe(entry: ModelEntry) -> dict[str, str]:
    """Return what a user wants to know of a model, as words."""
    card = entry.card
    voxel = "any" if card.voxel_size is None else " × ".join(f"{v:g} µm" for v in card.voxel_size)
    method = card.default_objects
    facts = {
        "name": entry.name,
        "file": str(entry.path),
        "description": card.description,
        "finds": f"{', '.join(card.classes)} ({card.representation})",
        "input": "grey or RGB" if card.colour else _channels(card.in_channels),
        "dimensions": f"{card.ndim}D",
        "architecture": f"{card.architecture} {json.dumps(card.options)}",
        "parameters": f"{card.parameters:,}",
        "normalisation": f"{card.normalisation.method} {json.dumps(card.normalisation.options)}",
        "pixel size in training": voxel,
        "tiles": (
            f"exact with a halo of {card.halo} px"
            if card.tile_invariant
            else "blended (the network sees the whole image at once)"
        ),
        "objects": f"{method.method} {json.dumps(method.options)}",
        "licence": card.licence,
        "authors": card.authors,
        "training data": card.training_data,
        "citation": card.citation,
    }
    return {key: value for key, value in facts.items() if value}


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count != 1)}"
