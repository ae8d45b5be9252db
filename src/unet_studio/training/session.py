"""A refining session on the disk: strokes and every version, safe against a killed process.

One folder::

    session.json           what is current, and the versions with their parents
    0000.safetensors       the base model, as it was
    0001.safetensors       …
    image-0.strokes.npz    annotations of the first image

Each file appears whole or not at all, the model file before the line that names it.
Reverting only changes which version is current: the files of all of them stay.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from unet_studio.errors import AnnotationError, ModelError
from unet_studio.images.atomic import atomic_file
from unet_studio.models.files import SUFFIX as MODEL_SUFFIX
from unet_studio.models.files import weights_hash
from unet_studio.models.store import home_folder
from unet_studio.training.strokes_file import SUFFIX, load_annotations, save_annotations

if TYPE_CHECKING:
    from unet_studio.models.model import Model
    from unet_studio.training.annotations import Annotations

_INDEX = "session.json"


class Version(BaseModel):
    """One model of a session.

    Attributes
    ----------
    number : int
        0 is the base.
    parent : int or None
        The version that it was refined from.
    sha256 : str
        Of its file.
    created : str
        Day and time, ISO 8601.
    verdict : dict
        Of the guard; empty for the base.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    parent: int | None
    sha256: str
    created: str
    verdict: dict[str, Any] = {}


class PaintedImage(BaseModel):
    """An image of a session; its place in the list is its number.

    Attributes
    ----------
    key : str
        Tells it from others, however it is called.
    name : str
        As it was called when it was first painted on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    name: str


class _Index(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    current: int = 0
    origin: str = ""  # hash of the weights in the file that the base came from
    versions: tuple[Version, ...] = ()
    images: tuple[PaintedImage, ...] = ()
    version: int = 1


def sessions_folder() -> Path:
    """Return where sessions are kept unless another folder is chosen; it may not exist."""
    return home_folder() / "sessions"


@dataclass(frozen=True)
class Session:
    """A folder with strokes and versions. Holds nothing in memory.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    @property
    def versions(self) -> tuple[Version, ...]:
        """Every version, the base first."""
        return self._index().versions

    @property
    def current(self) -> Version:
        """The version in use."""
        index = self._index()
        return self._version(index, index.current)

    def path(self, number: int) -> Path:
        """Return the model file of a version."""
        return self.folder / f"{number:04}{MODEL_SUFFIX}"

    def load(self, number: int | None = None) -> Model:
        """Load a version, the current one by default.

        Raises
        ------
        ModelError
            If there is none of this number, or its file was changed since.
        """
        from unet_studio.models.model import model_from_file

        index = self._index()
        version = self._version(index, index.current if number is None else number)
        model = model_from_file(self.path(version.number))
        if model.sha256 != version.sha256:
            raise ModelError(
                f"{self.path(version.number)} has changed since it was made (its SHA-256 "
                "differs). Revert to another version."
            )
        return model

    def add(
        self,
        model: Model,
        parent: int | None = None,
        verdict: dict[str, Any] | None = None,
        *,
        adopt: bool = False,
    ) -> Version:
        """Keep a model as a new version.

        Parameters
        ----------
        model : Model
        parent : int, optional
            Version it was refined from.
        verdict : dict, optional
            Of the guard.
        adopt : bool
            Make it the current one. A candidate that is not adopted is kept all the same.

        Raises
        ------
        ModelError, OutputError
            If the disk does not take it; the session is as before then.
        """
        from unet_studio.models.model import save_model

        index = self._index()
        if not index.versions and model.path is not None:
            index = index.model_copy(update={"origin": weights_hash(model.path)})
        number = 1 + max((v.number for v in index.versions), default=-1)
        saved = save_model(model, self.path(number))
        created = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        version = Version(
            number=number, parent=parent, sha256=saved.sha256, created=created,
            verdict=verdict or {},
        )  # fmt: skip
        current = number if adopt or not index.versions else index.current
        self._write(
            index.model_copy(update={"current": current, "versions": (*index.versions, version)})
        )
        return version

    def began_with(self, path: Path) -> bool:
        """Whether a model file holds the weights that the session began with.

        They need not be written alike: shipped models are float16, the base here is float32.

        Raises
        ------
        ModelError
            If the file is missing, damaged, or no model file.
        """
        known = {self._index().origin, weights_hash(self.path(0))} - {""}
        return weights_hash(path) in known

    def adopt(self, number: int) -> Version:
        """Make a version the current one.

        Raises
        ------
        ModelError
            If there is none of this number.
        """
        index = self._index()
        version = self._version(index, number)
        self._write(index.model_copy(update={"current": number}))
        return version

    def revert(self) -> Version:
        """Go back to the parent of the current version; of the base, stay.

        Its file is the very one that was there before: nothing is computed.
        """
        parent = self.current.parent
        return self.current if parent is None else self.adopt(parent)

    @property
    def images(self) -> tuple[PaintedImage, ...]:
        """The images that were painted on, in the order of their numbers."""
        return self._index().images

    def image_number(self, key: str, name: str) -> int:
        """Return the number of an image, a new one if it is not of this session yet.

        Parameters
        ----------
        key : str
            Tells it from others.
        name : str
            For people.

        Raises
        ------
        OutputError
            If the disk does not take it.
        """
        index = self._index()
        keys = [image.key for image in index.images]
        if key in keys:
            return keys.index(key)
        added = (*index.images, PaintedImage(key=key, name=name))
        self._write(index.model_copy(update={"images": added}))
        return len(keys)

    def save_strokes(self, image: int, annotations: Annotations) -> None:
        """Keep what was painted on image number ``image``, replacing what was there.

        Raises
        ------
        OutputError
            If the disk does not take it; the earlier strokes stay then.
        """
        save_annotations(annotations, self._strokes(image))

    def strokes(self, image: int) -> Annotations | None:
        """Return what was painted on an image; None if nothing was kept.

        Raises
        ------
        AnnotationError
            If the file is damaged.
        """
        path = self._strokes(image)
        return load_annotations(path) if path.exists() else None

    def _strokes(self, image: int) -> Path:
        return self.folder / f"image-{image}{SUFFIX}"

    def _version(self, index: _Index, number: int) -> Version:
        for version in index.versions:
            if version.number == number:
                return version
        known = ", ".join(str(v.number) for v in index.versions) or "none"
        raise ModelError(f"There is no version {number} in {self.folder}. There: {known}.")

    def _index(self) -> _Index:
        path = self.folder / _INDEX
        try:
            return _Index.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _Index()
        except (OSError, ValidationError) as error:
            raise AnnotationError(
                f"The session {path} can not be read: {error}. Its models ({MODEL_SUFFIX}) and "
                "strokes are in the same folder and can be opened one by one."
            ) from error

    def _write(self, index: _Index) -> None:
        text = json.dumps(index.model_dump(mode="json"), indent=2)
        with atomic_file(self.folder / _INDEX) as stream:
            stream.write(text.encode())


def open_session(folder: Path, base: Model | None = None) -> Session:
    """Open a session, beginning one with a base model if there is none yet.

    Parameters
    ----------
    folder : Path
    base : Model, optional
        Copied in as version 0, so that going back works whatever becomes of it elsewhere.

    Raises
    ------
    ModelError
        If there is no session in the folder and no base was given.
    """
    session = Session(folder)
    if not session.versions:
        if base is None:
            raise ModelError(f"There is no session in {folder}. Begin one with a model.")
        session.add(base)
    return session


def list_sessions(folder: Path | None = None) -> Sequence[Session]:
    """Return the sessions in a folder, the latest first."""
    folder = folder or sessions_folder()
    found = sorted(folder.glob(f"*/{_INDEX}"), key=lambda p: p.stat().st_mtime, reverse=True)
    return [Session(path.parent) for path in found]


def session_of(key: str, folder: Path | None = None) -> Session | None:
    """Return the latest session in which an image was painted on, None if there is none.

    Parameters
    ----------
    key : str
        As given to :meth:`Session.image_number`.
    folder : Path, optional
    """
    for session in list_sessions(folder):
        try:
            images = session.images
        except AnnotationError:  # damaged: its files are still there for the user
            continue
        if any(image.key == key for image in images):
            return session
    return None


def new_session(name: str, folder: Path | None = None) -> Session:
    """Return a session in a folder of its own, which is made once something is kept there.

    Parameters
    ----------
    name : str
        Of what is worked on; letters, digits and the like of it become part of the folder's.
    folder : Path, optional
        To make it in.
    """
    words = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:40].strip("-")
    first = f"{time.strftime('%Y-%m-%d-%H%M%S')}-{words or 'image'}"
    parent = folder or sessions_folder()
    path, count = parent / first, 1
    while path.exists():
        count += 1
        path = parent / f"{first}-{count}"
    return Session(path)
