"""``unet-studio models``: which models are here, what each is, and how to get more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from unet_studio.cli.console import download_progress, out, say, warn
from unet_studio.cli.export import export_command
from unet_studio.cli.flags import named_values
from unet_studio.models.describing import (
    describe,
    describe_file,
    describe_offer,
    input_in_words,
)

if TYPE_CHECKING:
    from unet_studio.models.catalogue import CatalogueEntry
    from unet_studio.models.fetching import Offer
    from unet_studio.models.importing import Imported
    from unet_studio.models.store import ModelEntry

models_app = typer.Typer(
    help="List, describe, fetch, import, export and remove models.", no_args_is_help=True
)
models_app.command("export")(export_command)

_NAME_HELP = "What to call it."


@models_app.command("list")
def list_command(
    search: Annotated[
        str, typer.Option("--search", "-s", help="Words that name, card or licence must hold.")
    ] = "",
) -> None:
    """List the models that are here, and those that can be fetched."""
    from unet_studio.models.catalogue import CATALOGUE
    from unet_studio.models.catalogue import search as search_catalogue
    from unet_studio.models.store import models_folder, search_models, unread_files

    found = search_models(search)
    if found:
        out.print(_table(found))
    here = {entry.name for entry in found}
    offered = [e for e in search_catalogue(CATALOGUE, search) if e.name not in here]
    if offered:
        out.print(("\n" if found else "") + "Can be fetched with `unet-studio models fetch NAME`:")
        out.print(_offers(offered))
    if search and not found and not offered:
        say(f"No model matches {search!r}.")
        say(f"Encoders of new models: `unet-studio models encoders --search {search!r}`.")
    for _, problem in [] if search else unread_files():
        warn(f"not listed: {problem}")
    say(f"Your own model files go into {models_folder()}")


@models_app.command("info")
def info_command(
    name: Annotated[str, typer.Argument(help="Name or path of a model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Describe one model: card, licence, origin, hash, size."""
    from unet_studio.models.catalogue import CATALOGUE
    from unet_studio.models.store import find_model, models_folder

    here = (models_folder() / f"{name}.safetensors").is_file()
    if name in CATALOGUE and not here and not as_json:
        _print_facts(describe_offer(CATALOGUE[name]))
        return
    entry = find_model(name)
    if as_json:
        typer.echo(entry.card.model_dump_json(indent=2))
        return
    _print_facts({**describe(entry), **describe_file(entry)})


@models_app.command("fetch")
def fetch_command(
    name: Annotated[
        str,
        typer.Argument(help="Name from the list, zoo:ID of the BioImage Model Zoo, or address."),
    ],
    rename: Annotated[str | None, typer.Option("--name", "-n", help=_NAME_HELP)] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="Refuse a file with any other SHA-256.")
    ] = None,
    print_url: Annotated[
        bool,
        typer.Option(
            "--print-url",
            help="Only tell what to download on another computer, and where to put it.",
        ),
    ] = False,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", help="A choice of that kind, as NAME=VALUE. Can be repeated."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a model of the same name.")
    ] = False,
) -> None:
    """Download a model into your store. Says first what comes from where."""
    from unet_studio.models.catalogue import find_entry
    from unet_studio.models.fetching import fetch_model, instructions, offer, with_hash

    entry = with_hash(find_entry(name), sha256)
    if print_url:
        say(instructions(entry))
        return
    say(announce(offer(entry)))
    with download_progress(entry.file) as tell:
        imported = fetch_model(
            entry,
            name=rename,
            replace_existing=replace,
            options=named_values(options or []),
            tell=tell,
        )
    _report(imported)


@models_app.command("import")
def import_command(
    path: Annotated[Path, typer.Argument(help="A model file, or another kind that is known.")],
    name: Annotated[str | None, typer.Option("--name", "-n", help=_NAME_HELP)] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Take the file for this kind.", show_default=False)
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", help="A choice of that kind, as NAME=VALUE. Can be repeated."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a model of the same name.")
    ] = False,
) -> None:
    """Copy or convert a model into your store. The file stays as it is."""
    from unet_studio.models.importing import import_model

    with download_progress(path.name) as tell:
        imported = import_model(
            path,
            name=name,
            importer=kind,
            options=named_values(options or []),
            replace=replace,
            tell=tell,
        )
    _report(imported)


@models_app.command("remove")
def remove_command(
    name: Annotated[str, typer.Argument(help="Name of a model of your store.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a model out of your store. Its file is moved aside, not deleted."""
    from unet_studio.models.store import check_removable, remove_model

    path = check_removable(name)
    if not yes and not typer.confirm(f"Remove {path}?", err=True):
        say("Nothing was removed.")
        return
    moved = remove_model(name)
    say(f"Removed {name}. The file is now {moved}; delete it there to free the space.")


@models_app.command("folder")
def folder_command() -> None:
    """Print the folder of your own models, and make it if it is not there."""
    from unet_studio.models.store import make_models_folder

    typer.echo(str(make_models_folder()))


def announce(what: Offer) -> str:
    """Return in one line what a fetch will do."""
    from unet_studio.images.limits import readable_size

    entry = what.entry
    if what.here is not None:
        return f"Taking {what.here}; nothing is downloaded."
    size = f"about {readable_size(entry.size)}" if entry.size else "size unknown"
    return f"Fetching {what.url.partition('?')[0]} ({size}, licence {entry.licence})"


def _table(entries: list[ModelEntry]) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in ("name", "finds", "input", "", "parameters", "licence", "from"):
        table.add_column(heading)
    for entry in entries:
        card = entry.card
        table.add_row(
            escape(entry.name),
            escape(", ".join(card.classes)),
            input_in_words(card),
            f"{card.ndim}D",
            f"{card.parameters:,}",
            escape(card.licence),
            entry.origin,
        )
    return table


def _offers(entries: list[CatalogueEntry]) -> Table:
    from unet_studio.images.limits import readable_size

    table = Table(box=None, header_style="bold")
    for heading in ("name", "finds", "size", "licence"):
        table.add_column(heading)
    for entry in entries:
        size = readable_size(entry.size) if entry.size else "unknown"
        table.add_row(escape(entry.name), escape(entry.finds), size, escape(entry.licence))
    return table


def _print_facts(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for key, value in facts.items():  # whole lines: a path can be copied from them
        out.print(f"[bold]{key:<{width}}[/]  {escape(value)}")


def _report(imported: Imported) -> None:
    for note in imported.notes:
        say(note)
    entry = imported.entry
    say(f"Model {entry.name!r} is ready ({entry.path}). Use it with --model {entry.name!r}.")
    if entry.card.licence == "unknown":
        warn("its licence is not stated; ask where it comes from before you publish with it.")
