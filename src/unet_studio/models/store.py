"""Which models are here: those that came with the package and those of the user.

No torch here: only headers are read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.files import SUFFIX, read_card

Origin = Literal["bundled", "store", "file"]
DEFAULT_MODEL = "nuclei"
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
        return Path(home).expanduser()
    from platformdirs import user_data_path

    return user_data_path("unet-studio", appauthor=False)


def models_folder() -> Path:
    """Return the folder of the user's own models; it may not exist yet."""
    return home_folder() / "models"


def list_models() -> list[ModelEntry]:
    """Return every readable model, bundled ones first.

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
    return entries


def find_model(reference: str | Path) -> ModelEntry:
    """Find a model by name or path, reading only its header.

    Raises
    ------
    ModelError
        If there is none, or its file is damaged; the message lists the names known.
    """
    text = str(reference)
    path = Path(text).expanduser()
    looks_like_path = path.suffix == SUFFIX or len(path.parts) > 1 or path.is_file()
    if looks_like_path:
        return ModelEntry(path.stem, path, read_card(path), "file")
    folders: tuple[tuple[Path, Origin], ...] = (
        (_BUNDLED, "bundled"),
        (models_folder(), "store"),
    )
    for folder, origin in folders:
        candidate = folder / f"{text}{SUFFIX}"
        if candidate.is_file():
            return ModelEntry(text, candidate, read_card(candidate), origin)
    known = ", ".join(e.name for e in list_models()) or "none"
    raise ModelError(
        f"There is no model called {text!r}. Known: {known}. Give one of these names, or the "
        f"path of a {SUFFIX} file."
    )
