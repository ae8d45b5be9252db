"""Packages of the BioImage Model Zoo, as the store imports them. No torch at the top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_studio.errors import ModelError, RecipeError
from unet_studio.models.importing import ALLOW, Importer, ImportRequest, is_yes
from unet_studio.models.zoo.package import description_name, open_files

_SWITCHES = (ALLOW, "download")
_OPTIONS = ("weights", "state_dict", *_SWITCHES, "channel")


def recognises(path: Path) -> bool:
    """Whether a file or folder looks like a package of the BioImage Model Zoo."""
    try:
        if path.is_file() and path.suffix in (".yaml", ".yml"):
            return description_name([path.name]) is not None
        if path.is_dir():
            return description_name([p.name for p in path.iterdir()]) is not None
        if path.suffix.lower() != ".zip":
            return False
        with open_files(path) as package:
            return description_name(package.names()) is not None
    except (ModelError, OSError):
        return False


def convert(request: ImportRequest) -> tuple[str, ...]:
    """Write the model file of a package.

    Options are ``weights``, ``state_dict``, ``allow_torchscript``, ``download`` and
    ``channel``, as :func:`unet_studio.models.zoo.importing.import_package` takes them.

    Raises
    ------
    ModelError
        If the package is damaged, not to be trusted, or can not be run exactly.
    RecipeError
        For an unknown option.
    """
    from unet_studio.models.model import save_model
    from unet_studio.models.zoo.importing import import_package

    model = import_package(request.source, name=request.name, **_arguments(request.options))
    request.token.raise_if_cancelled()
    save_model(model, request.target)
    return model.notes


def _arguments(options: Mapping[str, str]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise RecipeError(
            f"A package of the BioImage Model Zoo has no option {unknown[0]!r}. Its options "
            f"are: {', '.join(_OPTIONS)}."
        )
    arguments: dict[str, Any] = dict(options)
    if "channel" in options:
        if not options["channel"].isdigit():
            raise RecipeError(f"channel is {options['channel']!r}; give a whole number.")
        arguments["channel"] = int(options["channel"])
    for switch in _SWITCHES:
        if switch in options:
            arguments[switch] = is_yes(options[switch], switch)
    return arguments


BIOIMAGE_IO = Importer(
    "a package of the BioImage Model Zoo (.zip, or a folder with rdf.yaml)",
    (".zip", ".yaml"),
    recognises,
    convert,
)
