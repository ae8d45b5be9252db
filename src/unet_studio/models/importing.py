"""Bringing a model into the store: the kinds of files that can be, and the way in.

An importer knows one kind. To add one, write a module with an :class:`Importer` and add
one line to :data:`IMPORTERS`. The module must not import torch at its top: all are asked
whether they recognise a file. Its ``convert`` may.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from unet_studio.errors import ModelError, RecipeError
from unet_studio.events import CancelToken, Event
from unet_studio.images.atomic import atomic_file
from unet_studio.images.limits import readable_size
from unet_studio.models.files import SUFFIX, has_card, verify_file
from unet_studio.models.ledger import Record, now, write_record
from unet_studio.models.partial import file_sha256
from unet_studio.models.store import (
    ModelEntry,
    find_model,
    is_bundled,
    list_models,
    models_folder,
)
from unet_studio.models.unknown import what_it_is
from unet_studio.registry import Registry
from unet_studio.user_paths import user_path

_NAME = re.compile(r"\w[\w .+-]{0,99}")
_PIECE = 1 << 20
# The choice with which a user trusts a program (TorchScript).
ALLOW = "allow_torchscript"


@dataclass(frozen=True)
class ImportRequest:
    """What an importer is asked to do.

    Attributes
    ----------
    source : Path
        File or folder.
    target : Path
        Model file (``.safetensors``) to write, with
        :func:`~unet_studio.models.files.write_model_file`.
    name : str
        For the card.
    options : mapping of str to str
        What the user set (``--set KEY=VALUE``), if the kind has choices.
    token : CancelToken
    tell : callable
        Takes events: progress and warnings.
    """

    source: Path
    target: Path
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    token: CancelToken = field(default_factory=CancelToken)
    tell: Callable[[Event], None] = lambda event: None


@dataclass(frozen=True)
class Importer:
    """One kind of file.

    Attributes
    ----------
    kind : str
        What such a file is called, with its article: "a BioImage Model Zoo package".
    suffixes : tuple of str
        Endings of its files, for the window's file dialog; empty for folders.
    recognises : callable
        Takes a path that exists; whether it is of this kind. Quick, no torch, never raises.
    convert : callable
        Writes the model file; returns notes for the user. Raises a
        :class:`~unet_studio.errors.UNetStudioError` that says what is wrong.
    """

    kind: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path], bool]
    convert: Callable[[ImportRequest], tuple[str, ...]]


# The first that recognises a file takes it.
IMPORTERS: Registry[Importer] = Registry(
    "importer",
    {
        "model-file": "unet_studio.models.importing:MODEL_FILE",
        "bioimageio": "unet_studio.models.zoo.importer:BIOIMAGE_IO",
        "brain-mri": "unet_studio.models.brain_mri:IMPORTER",
        "nnunet": "unet_studio.models.nnunet:IMPORTER",
        "weights": "unet_studio.models.foreign:IMPORTER",
    },
    entry_points="unet_studio.importers",
)


@dataclass(frozen=True)
class Imported:
    """A model that is now in the store, and what the user should know of how."""

    entry: ModelEntry
    notes: tuple[str, ...] = ()


def import_model(
    source: Path,
    *,
    name: str | None = None,
    importer: str | None = None,
    options: Mapping[str, str] | None = None,
    replace: bool = False,
    origin: str = "",
    published: bool = False,
    address: str = "",
    token: CancelToken | None = None,
    tell: Callable[[Event], None] | None = None,
) -> Imported:
    """Bring a model into the user's store.

    Parameters
    ----------
    source : Path
        A file or folder of a kind in :data:`IMPORTERS`; it stays as it is.
    name : str, optional
        What to call it; by default the name of the file.
    importer : str, optional
        Kind; by default the first that recognises the file.
    options : mapping of str to str, optional
        Choices of that kind.
    replace : bool
        Whether a model of that name may be replaced.
    origin : str
        Where it came from, for its record; by default the path.
    published : bool
        It was fetched: a later change of the file is an error.
    address : str
        The whole address that it was fetched from; only its hash is recorded.
    token, tell
        For cancelling, and for progress and warnings.

    Raises
    ------
    ModelError
        If the file is of no known kind, damaged, or the name can not be taken.
    OutputError
        If the store can not be written.
    """
    source = user_path(source)
    if not source.exists():
        raise ModelError(f"There is nothing at {source}. Check the path.")
    part = IMPORTERS.load(importer) if importer else recognise(source)
    target = target_of(name or default_name(source), replace=replace)
    request = ImportRequest(
        source,
        target,
        target.stem,
        options or {},
        token or CancelToken(),
        tell or (lambda event: None),
    )
    request.token.raise_if_cancelled()
    with _naming(origin or str(source), source.name):
        notes = part.convert(request)
    entry = find_model(target)
    record = Record(
        sha256=file_sha256(target),
        size=target.stat().st_size,
        added=now(),
        source=origin or str(source.resolve()),
        kind=part.kind,
        published=published,
        address_sha256=address_hash(address) if address else "",
        downloaded_sha256=file_sha256(source) if published else "",
    )
    write_record(target, record)
    return Imported(ModelEntry(target.stem, target, entry.card, "store"), notes)


@contextmanager
def _naming(shown: str, name: str) -> Iterator[None]:
    """Say of which model an error is: what reads the inside of one knows no path."""
    try:
        yield
    except ModelError as error:
        if name not in str(error) and shown not in str(error):
            error.args = (f"{shown}: {error}",)
        raise


def address_hash(address: str) -> str:
    """Return what a record holds of an address: it may contain a secret."""
    return hashlib.sha256(address.encode()).hexdigest()


def recognise(source: Path) -> Importer:
    """Return the importer for a file or folder.

    Raises
    ------
    ModelError
        If none knows it; the message says what it is, or lists the kinds.
    """
    parts = [IMPORTERS.load(name) for name in IMPORTERS]
    for part in parts:
        if part.recognises(source):
            return part
    if source.suffix == SUFFIX:
        has_card(source, strict=True)  # says what is wrong with it
    if told := what_it_is(source):
        raise ModelError(f"{source} {told}")
    kinds = "; ".join(part.kind for part in parts)
    raise ModelError(
        f"{source} is not a model of a kind that can be imported. Known kinds: {kinds}. "
        "If it should be one of these, it is damaged: get it again."
    )


def default_name(source: Path) -> str:
    """Return a model's name for a file: its own, without ending and unusual letters."""
    stem = source.stem if source.is_file() else source.name
    return re.sub(r"[^\w .+-]+", "_", stem).strip(" ._-+")[:100] or "model"


def free_name(name: str) -> str:
    """Return a name that no model has: the given one, or the same with a number."""
    taken = {entry.name.casefold() for entry in list_models()}
    numbered = (f"{name} {number}" for number in range(2, len(taken) + 3))
    return next(n for n in (name, *numbered) if n.casefold() not in taken)


def target_of(name: str, *, replace: bool = False) -> Path:
    """Return the file of the store for a name.

    Raises
    ------
    ModelError
        If the name can not be a file's, is a bundled model's, or is taken.
    """
    reserved = name.partition(".")[0].upper() in ("CON", "PRN", "AUX", "NUL")
    if not _NAME.fullmatch(name) or name != name.strip(" .") or reserved:
        raise ModelError(
            f"{name!r} can not be a model's name: use letters, digits, spaces and . + - _"
        )
    if is_bundled(name):
        raise ModelError(
            f"{name!r} is the name of a model that came with U-Net Studio. Choose another name."
        )
    target = models_folder() / f"{name}{SUFFIX}"
    if target.exists() and not replace:
        raise ModelError(
            f"There is already a model {name!r} in {target.parent}. Choose another name, remove "
            "it first, or ask for it to be replaced."
        )
    return target


# -- our own files -------------------------------------------------------------


def _is_model_file(path: Path) -> bool:
    return path.is_file() and path.suffix == SUFFIX and has_card(path)


def _copy(request: ImportRequest) -> tuple[str, ...]:
    """Check a model file, and copy it bit by bit: it keeps its hash."""
    unknown = sorted(set(request.options) - {ALLOW})
    if unknown:
        raise RecipeError(
            f"{request.source} is a model file of U-Net Studio, which is taken as it is: "
            f"{unknown[0]} can not be set. Leave it out."
        )
    verify_file(request.source)
    if is_yes(request.options.get(ALLOW, "no"), ALLOW):
        from unet_studio.models.consent import allow_file

        allow_file(request.source, request.name)
    if request.target.exists() and request.source.samefile(request.target):
        return ()
    with request.source.open("rb") as reading, atomic_file(request.target) as writing:
        while piece := reading.read(_PIECE):
            request.token.raise_if_cancelled()
            writing.write(piece)
    return (f"Copied {readable_size(request.target.stat().st_size)}.",)


def is_yes(text: str, name: str) -> bool:
    """Read a choice of yes or no.

    Raises
    ------
    RecipeError
    """
    word = text.strip().lower()
    if word not in ("yes", "true", "no", "false"):
        raise RecipeError(f"{name} is {text!r}; give yes or no.")
    return word in ("yes", "true")


MODEL_FILE = Importer(f"a model file of U-Net Studio ({SUFFIX})", (SUFFIX,), _is_model_file, _copy)
