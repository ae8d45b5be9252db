"""Writing a model for others: each kind of file that it can become, and the way there.

No torch at the top: the window lists the kinds before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import ModelError, OutputError
from unet_studio.events import CancelToken, Event, Started
from unet_studio.images.atomic import atomic_file
from unet_studio.models.files import SUFFIX, verify_file
from unet_studio.user_paths import user_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model

_PIECE = 1 << 20
_PREPARED = (
    "Other programs have to be given images that are prepared already: the package's README.md "
    "says how. U-Net Studio prepares them by itself."
)


class Kind(StrEnum):
    """What a model can be written as."""

    bioimageio = "bioimageio"
    onnx = "onnx"
    torchscript = "torchscript"
    file = "file"


# How each kind of file ends.
SUFFIXES: dict[Kind, str] = {
    Kind.bioimageio: ".zip",
    Kind.onnx: ".onnx",
    Kind.torchscript: ".pt",
    Kind.file: SUFFIX,
}


_WORDS = {
    Kind.bioimageio: "a package of the BioImage Model Zoo",
    Kind.onnx: "ONNX",
    Kind.torchscript: "TorchScript",
    Kind.file: "a model file of U-Net Studio",
}
# Other endings in use for programs of TorchScript.
_ALSO = {Kind.torchscript: (".pth", ".ts", ".torchscript")}


def kind_of_target(target: Path) -> Kind:
    """Return what a file is to become, by its ending.

    Raises
    ------
    ModelError
        If that tells nothing.
    """
    for kind, suffix in SUFFIXES.items():
        if target.suffix.lower() in (suffix, *_ALSO.get(kind, ())):
            return kind
    endings = ", ".join(f"{suffix} ({_WORDS[kind]})" for kind, suffix in SUFFIXES.items())
    raise ModelError(f"How {target.name} ends does not tell what to write. Known: {endings}.")


@dataclass(frozen=True)
class Details:
    """What a package says of its makers, where the card does not or should not.

    Attributes
    ----------
    authors : tuple of str
        Names; those of the card by default.
    licence : str or None
        SPDX identifier, such as "CC-BY-4.0"; that of the card by default.
    maintainer : str or None
        A GitHub user name.
    tags : tuple of str
    """

    authors: tuple[str, ...] = ()
    licence: str | None = None
    maintainer: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportRequest:
    """What is to be written.

    Attributes
    ----------
    reference : str or Path
        A model, as :func:`~unet_studio.models.model.load_model` takes it.
    target : Path
        Ends as :data:`SUFFIXES` says.
    kind : Kind
    example : callable or None
        For a package: returns its test image, axes (C, [Z,] Y, X), for the card it is
        given. A made-up texture by default.
    details : Details
        For a package.
    replace : bool
        Whether a file that is there may be replaced.
    """

    reference: str | Path
    target: Path
    kind: Kind = Kind.bioimageio
    example: Callable[[ModelCard], NDArray[Any]] | None = None
    details: Details = field(default_factory=Details)
    replace: bool = False


def export_model(
    request: ExportRequest,
    *,
    token: CancelToken | None = None,
    tell: Callable[[Event], None] | None = None,
) -> tuple[str, ...]:
    """Write a model for other programs. Nothing is uploaded.

    Parameters
    ----------
    request : ExportRequest
    token, tell
        For cancelling between steps, and for progress.

    Returns
    -------
    tuple of str
        What was written and what to know of it, in sentences for the user.

    Raises
    ------
    ModelError
        If the model can not be written so.
    OutputError
        If a file is there already, or the folder can not be written.
    Cancelled
    """
    from unet_studio.models.model import load_model

    target = user_path(request.target)
    _check_target(target, request)
    step = _Steps(token or CancelToken(), tell or (lambda event: None))
    step("loading the model")
    model = load_model(request.reference)
    if request.kind is Kind.file:
        return _write_file(model, target, step)
    if request.kind is Kind.bioimageio:
        from unet_studio.models.zoo.exporting import export_bioimageio, stated_licence
        from unet_studio.models.zoo.prepared import takes_prepared

        image = None if request.example is None else request.example(model.card)
        export_bioimageio(model, target, example=image, details=request.details, step=step)
        told = [f"Wrote {target}, a valid package of the BioImage Model Zoo."]
        if stated_licence(model.card, request.details) is None:
            told.append(
                f"The package states no licence: {model.card.licence!r} is no SPDX identifier. "
                "Choose one, such as CC-BY-4.0, if the weights are yours to license."
            )
        return (*told, *([_PREPARED] if takes_prepared(model.card) else []))
    return _write_program(model, target, request.kind, step)


class _Steps:
    """Tells which step comes next; ends the work there if it was cancelled."""

    def __init__(self, token: CancelToken, tell: Callable[[Event], None]) -> None:
        self.token, self._tell = token, tell

    def __call__(self, what: str) -> None:
        self.token.raise_if_cancelled()
        self._tell(Started(what))


def _check_target(target: Path, request: ExportRequest) -> None:
    suffix, kind = SUFFIXES[request.kind], request.kind
    if target.suffix.lower() not in (suffix, *_ALSO.get(kind, ())):
        raise ModelError(f"{target.name} should end in {suffix}, to become {_WORDS[kind]}.")
    if target.exists() and not request.replace:
        raise OutputError(
            f"{target} is there already. Choose another name, or have it replaced (--replace)."
        )


def _write_program(model: Model, target: Path, kind: Kind, step: _Steps) -> tuple[str, ...]:
    from unet_studio.models.zoo.programs import export_onnx, export_torchscript

    step("writing and comparing the network")
    write = export_onnx if kind is Kind.onnx else export_torchscript
    difference = write(model, target)
    method, output = model.card.normalisation.method, model.card.output
    return (
        f"Wrote {target}. It differs from the model by {difference:.0e} of its deviation at most.",
        f"It takes normalised images ({method}) and returns {output}.",
    )


def _write_file(model: Model, target: Path, step: _Steps) -> tuple[str, ...]:
    """Copy the model's file bit by bit; write one if it has none."""
    step("writing the file")
    if model.path is None:
        from unet_studio.models.model import save_model

        save_model(model, target)
    elif not (target.exists() and model.path.samefile(target)):
        verify_file(model.path)
        with model.path.open("rb") as reading, atomic_file(target) as writing:
            while piece := reading.read(_PIECE):
                step.token.raise_if_cancelled()
                writing.write(piece)
    return (f"Wrote {target}. U-Net Studio opens it wherever it is: give it to a colleague.",)
