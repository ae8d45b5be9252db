"""New models as files of the store: named, made, written, recorded. No torch at the top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import ModelError
from unet_studio.events import CancelToken, Event, Started
from unet_studio.models.choices import ARCHITECTURES, choose
from unet_studio.models.encoder_files import WeightsOffer, offer_weights
from unet_studio.models.encoders import (
    RANDOM,
    EncoderWeights,
    Size,
    default_encoder,
    find_encoder,
    preset_size,
)
from unet_studio.models.files import SUFFIX
from unet_studio.models.importing import Imported, target_of
from unet_studio.models.ledger import Record, now, write_record
from unet_studio.models.store import find_model
from unet_studio.user_paths import user_path

if TYPE_CHECKING:
    from unet_studio.models.model import Model


@dataclass(frozen=True)
class NewModel:
    """A model that is to be made.

    Attributes
    ----------
    preset : str
        As in :func:`unet_studio.models.presets.new_model`.
    weights : str
        The same.
    in_channels, ndim : int
    representation : {"binary", "classes", "objects"}
    classes : tuple of str or None
        None for the usual names.
    colour : bool
        The three channels are red, green, blue.
    seed : int
    """

    preset: str
    weights: str = RANDOM
    in_channels: int = 1
    ndim: int = 2
    representation: str = "objects"
    classes: tuple[str, ...] | None = None
    colour: bool = False
    seed: int = 0

    def known_weights(self) -> EncoderWeights | None:
        """Return the table's entry of the weights; None for random ones and files.

        Raises
        ------
        ModelError
            If the architecture, encoder or weights do not exist.
        """
        architecture, options = choose(self.preset, self.ndim)
        if self.weights == RANDOM or ":" in self.weights or _is_path(self.weights):
            return None
        known = ARCHITECTURES.get(architecture)
        if known is None or not known.has_encoder:
            return None
        return find_encoder(_encoder(architecture, options)).find_weights(self.weights)

    def to_fetch(self) -> WeightsOffer | None:
        """Return what would have to be downloaded; None if nothing. Asks no network.

        Raises
        ------
        ModelError
        """
        known = self.known_weights()
        if known is None:
            return None
        what = offer_weights(known)
        return what if what.here is None else None

    def size(self) -> tuple[Size, bool] | None:
        """Return how large it will be, about, and whether all of it is counted.

        None if that is not known.

        Raises
        ------
        ModelError
        """
        architecture, options = choose(self.preset, self.ndim)
        if architecture.startswith("smp-"):
            try:
                entry = find_encoder(_encoder(architecture, options))
            except ModelError:  # of timm, but not in the table
                return None
            whole = entry.networks.get(architecture)
            return Size(whole or entry.parameters, entry.bytes_per_pixel), whole is not None
        found = preset_size(self.preset, self.ndim)
        return None if found is None else (found, True)


def _encoder(architecture: str, options: dict[str, Any]) -> str:
    return str(options.get("encoder", default_encoder(architecture)))


def _is_path(weights: str) -> bool:
    path = user_path(weights)
    return path.is_file() or bool(path.suffix) or len(path.parts) > 1


def create_model(
    name: str,
    new: NewModel,
    *,
    output: Path | None = None,
    replace: bool = False,
    download: bool = False,
    token: CancelToken | None = None,
    tell: Callable[[Event], None] | None = None,
) -> Imported:
    """Make a model and write its file.

    Parameters
    ----------
    name : str
        What to call it in the store, and in its card.
    new : NewModel
    output : Path, optional
        File to write instead of one of the store.
    replace : bool
        Whether a file of that name may be replaced.
    download : bool
        Whether trained weights may be downloaded.
    token, tell
        For cancelling, and for progress and warnings.

    Raises
    ------
    ModelError
        If the name is taken, or no such model can be made.
    DownloadError, OutputError, Cancelled
    """
    target = target_of(name, replace=replace) if output is None else _output(output, replace)
    token, tell = token or CancelToken(), tell or _ignore
    tell(Started("making the network"))
    model = _make(name, new, download=download, token=token, tell=tell)
    token.raise_if_cancelled()
    from unet_studio.models.model import save_model

    saved = save_model(model, target)
    if output is None:
        record = Record(
            sha256=saved.sha256,
            size=target.stat().st_size,
            added=now(),
            source=f"made here: {new.preset}, weights {new.weights}",
            kind="a new model",
        )
        write_record(target, record)
    return Imported(find_model(target if output is not None else name), model.notes)


def _make(
    name: str,
    new: NewModel,
    *,
    download: bool,
    token: CancelToken,
    tell: Callable[[Event], None],
) -> Model:
    from unet_studio.models.presets import new_model

    return new_model(
        new.preset,
        in_channels=new.in_channels,
        ndim=new.ndim,
        representation=new.representation,
        classes=new.classes,
        seed=new.seed,
        weights=new.weights,
        download=download,
        token=token,
        on_event=tell,
        name=name,
        colour=new.colour,
    )


def _output(path: Path, replace: bool) -> Path:
    path = user_path(path)
    if path.suffix != SUFFIX:
        raise ModelError(f"{path} should end in {SUFFIX}, as every model file does.")
    if path.exists() and not replace:
        raise ModelError(f"{path} is already there. Choose another name, or ask to replace it.")
    return path


def _ignore(event: Event) -> None:
    pass
