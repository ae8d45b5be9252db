"""Which models are here: those that came with the package and those of the user.

No torch here: only headers are read.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet_studio.errors import ModelError
from unet_studio.images.atomic import cannot_write
from unet_studio.models.card import ModelCard
from unet_studio.models.files import SUFFIX, read_card
from unet_studio.models.ledger import record_path
from unet_studio.registry import perhaps
from unet_studio.user_paths import is_file, user_path

Origin = Literal["bundled", "store", "file"]
DEFAULT_MODEL = "nuclei"
# Endings of models that have to be converted before they can be used.
_TO_IMPORT = (".pt", ".pth", ".ckpt", ".bin", ".zip", ".onnx")
_BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be loaded.

    Attributes
    ----------
    name : str
        What to call it in recipes: the file's stem.
    path : Path
    card : ModelCard
    origin : {"bundled", "store", "file"}
    """

    name: str
    path: Path
    card: ModelCard
    origin: Origin


def home_folder() -> Path:
    """Return the folder of everything kept between runs.

    ``$UNET_STUDIO_HOME`` if set, else the platform's place for user data.
    """
    if home := os.environ.get("UNET_STUDIO_HOME"):
        return user_path(home)
    from platformdirs import user_data_path

    return user_data_path("unet-studio", appauthor=False)


def models_folder() -> Path:
    """Return the folder of the user's own models; it may not exist yet."""
    return home_folder() / "models"


def make_models_folder() -> Path:
    """Return the folder of the user's own models, made if it was not there.

    Raises
    ------
    OutputError
        If it can not be made.
    """
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def is_bundled(name: str) -> bool:
    """Whether a model of this name came with the package, whatever the case of its letters."""
    return any(path.stem.casefold() == name.casefold() for path in _BUNDLED.glob(f"*{SUFFIX}"))


def in_store(path: Path) -> bool:
    """Whether a file lies in the user's models folder."""
    return path.absolute().parent == models_folder().absolute()


def search_models(words: str) -> list[ModelEntry]:
    """Return the models in whose name or card every word occurs, as :func:`list_models` does.

    Parameters
    ----------
    words : str
        Separated by spaces; no word finds all.
    """
    wanted = words.casefold().split()
    return [e for e in list_models() if all(word in _searched(e) for word in wanted)]


def _searched(entry: ModelEntry) -> str:
    card = entry.card
    fields = (
        entry.name,
        *card.classes,
        card.architecture,
        f"{card.ndim}d",
        card.licence,
        card.description,
        card.training_data,
        card.authors,
        entry.origin,
    )
    return " ".join(fields).casefold()


def removed_folder() -> Path:
    """Return where removed models are kept until the user deletes them."""
    return home_folder() / "removed"


def check_removable(name: str) -> Path:
    """Return the file that :func:`remove_model` would move.

    Raises
    ------
    ModelError
        If there is none of this name in the user's store.
    """
    path = models_folder() / f"{name}{SUFFIX}"
    if path.parent == models_folder() and os.path.lexists(path):
        return path
    if is_bundled(name):
        raise ModelError(
            f"{name!r} came with U-Net Studio and can not be removed. Only models of your own can."
        )
    own = ", ".join(p.stem for p in sorted(models_folder().glob(f"*{SUFFIX}"))) or "none"
    raise ModelError(
        f"There is no model {name!r} in {models_folder()}. There: {own}. Files elsewhere are "
        "yours to delete."
    )


def remove_model(name: str) -> Path:
    """Take a model out of the user's store. It is moved, not deleted.

    Parameters
    ----------
    name : str

    Returns
    -------
    Path
        Where the file is now, in :func:`removed_folder`.

    Raises
    ------
    ModelError
        If there is none of this name in the user's store. Bundled models stay.
    OutputError
        If the folder can not be changed.
    """
    path = check_removable(name)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = removed_folder() / f"{stamp}-{time.monotonic_ns() % 10**6:06}" / path.name
    try:
        target.parent.mkdir(parents=True)
        path.rename(target)
        if record_path(path).is_file():
            record_path(path).replace(record_path(target))
    except OSError as error:
        raise cannot_write(path, error) from error
    return target


def list_models() -> list[ModelEntry]:
    """Return every readable model: :data:`DEFAULT_MODEL`, other bundled ones, then the user's.

    A damaged file in the user's folder does not hide the others: it is left
    out here, and named when it is asked for.
    """
    entries: list[ModelEntry] = []
    folders: tuple[tuple[Path, Origin], ...] = (
        (_BUNDLED, "bundled"),
        (models_folder(), "store"),
    )
    for folder, origin in folders:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                card = read_card(path)
            except ModelError:
                continue
            if all(path.stem != e.name for e in entries):
                entries.append(ModelEntry(path.stem, path, card, origin))
    return sorted(entries, key=lambda entry: entry.name != DEFAULT_MODEL)


def unread_files() -> list[tuple[Path, str]]:
    """Return the files of the user's folder that are no models, each with what to do."""
    found = []
    folder = models_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == SUFFIX:
            try:
                read_card(path)
            except ModelError as error:
                found.append((path, str(error)))
        elif path.suffix.lower() in _TO_IMPORT:
            found.append((path, f"{path} has to be imported: `unet-studio models import {path}`."))
    return found


def find_model(reference: str | Path) -> ModelEntry:
    """Find a model by name or path, reading only its header.

    Raises
    ------
    ModelError
        If there is none, or its file is damaged; the message lists the names known.
    """
    text = str(reference)
    path = user_path(text)
    looks_like_path = path.suffix == SUFFIX or len(path.parts) > 1 or is_file(path)
    if looks_like_path:
        origin: Origin = "store" if in_store(path) else "file"
        return ModelEntry(path.stem, path, read_card(path), origin)
    folders: tuple[tuple[Path, Origin], ...] = (
        (_BUNDLED, "bundled"),
        (models_folder(), "store"),
    )
    for folder, origin in folders:
        candidate = folder / f"{text}{SUFFIX}"
        if is_file(candidate):
            return ModelEntry(text, candidate, read_card(candidate), origin)
    names = [e.name for e in list_models()]
    known = ", ".join(names) or "none"
    raise ModelError(
        f"There is no model called {text!r}. Known: {known}. Give one of these names, or the "
        f"path of a {SUFFIX} file.{perhaps(text, names)}"
    )
