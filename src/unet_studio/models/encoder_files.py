"""Files with an encoder's trained weights: found, fetched when asked, never changed unseen.

A file is looked for in our own folder, then in the cache of the Hugging Face Hub, and
only then downloaded, if that was asked for. Its SHA-256 is written down at first use and
compared at each later one.

Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unet_studio.errors import DownloadError, ModelError
from unet_studio.events import CancelToken, Event
from unet_studio.images.atomic import atomic_file
from unet_studio.models.download import download
from unet_studio.models.encoders import EncoderWeights
from unet_studio.models.partial import file_sha256
from unet_studio.models.store import home_folder

FILE_NAME = "model.safetensors"
_HUB = "https://huggingface.co"
_SIZE_LIMIT = 4 * 1024**3
_HASHES = "sha256.json"


@dataclass(frozen=True)
class WeightsOffer:
    """What getting some weights would do, to be shown before it is done.

    Attributes
    ----------
    weights : EncoderWeights
    url : str
    local : bool
        The user named that hub (``$HF_ENDPOINT``), so it may be in their own network.
    here : Path or None
        The file, if it is already on this computer: nothing is downloaded then.
    """

    weights: EncoderWeights
    url: str
    local: bool
    here: Path | None


def encoders_folder() -> Path:
    """Return the folder where encoders' weights are kept; it may not exist yet."""
    return home_folder() / "encoders"


def own_path(weights: EncoderWeights) -> Path:
    """Return where the file of these weights lies, or will lie, in our folder."""
    place = weights.repository.replace("/", "--")
    return encoders_folder() / f"{place}@{weights.revision[:12]}" / FILE_NAME


def offer_weights(weights: EncoderWeights) -> WeightsOffer:
    """Return what getting these weights would do. Nothing is asked of the network."""
    named = os.environ.get("HF_ENDPOINT", "").strip()
    hub = (named or _HUB).rstrip("/")
    url = f"{hub}/{weights.repository}/resolve/{weights.revision}/{FILE_NAME}"
    return WeightsOffer(weights, url, bool(named), weights_here(weights))


def weights_here(weights: EncoderWeights) -> Path | None:
    """Return the file if it is on this computer: in our folder or the Hub's cache."""
    own = own_path(weights)
    if own.is_file():
        return own
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    cached = try_to_load_from_cache(weights.repository, FILE_NAME, revision=weights.revision)
    return Path(cached) if isinstance(cached, str) else None


def obtain_weights(
    weights: EncoderWeights,
    *,
    may_download: bool = False,
    token: CancelToken | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Path:
    """Return the file of these weights.

    Parameters
    ----------
    weights : EncoderWeights
    may_download : bool
        The user was asked, and wants a file that is not on this computer downloaded.
    token : CancelToken, optional
    on_event : callable, optional
        Told of the download's progress.

    Raises
    ------
    ModelError
        If it is not here and may not be downloaded. If its content is not what it was at
        first use.
    DownloadError
        If it can not be downloaded: the message says which file to put where.
    OutputError, Cancelled
    """
    what = offer_weights(weights)
    path = what.here
    if path is None:
        if not may_download:
            raise ModelError(
                f"The weights {weights.repository} (licence {weights.licence}) are not on this "
                f"computer, and nothing is downloaded unasked. Allow it (--download, or "
                f"download=True in Python). {_by_hand(what)}"
            )
        path = _download(what, token, on_event)
    check_unchanged(path, weights)
    return path


def _by_hand(what: WeightsOffer) -> str:
    target = own_path(what.weights)
    return (
        f"Without a network: on another computer, download {what.url} and put it, under the "
        f"name {FILE_NAME}, into {target.parent}; or give the path of that file as the weights."
    )


def _download(
    what: WeightsOffer,
    token: CancelToken | None,
    on_event: Callable[[Event], None] | None,
) -> Path:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise DownloadError(
            f"The weights {what.weights.repository} are not on this computer, and "
            f"HF_HUB_OFFLINE forbids to download them. {_by_hand(what)}"
        )
    try:
        return download(
            what.url,
            own_path(what.weights),
            sha256=None,
            size_limit=_SIZE_LIMIT,
            token=token,
            on_event=on_event,
            local=what.local,
        )
    except DownloadError as error:
        raise DownloadError(f"{error} {_by_hand(what)}") from None


def check_unchanged(path: Path, weights: EncoderWeights) -> None:
    """Compare a file with what it was at first use.

    Raises
    ------
    ModelError
        If its content has changed, or it can not be read.
    """
    record = encoders_folder() / _HASHES
    known = _read_hashes(record).get(_key(weights))
    found = sha256_of(path)
    if known is not None and known != found:
        raise ModelError(
            f"The weights in {path} are not those that were used before (SHA-256 {found[:16]}…, "
            f"not {known[:16]}…): the file is damaged, or was replaced. Delete it to fetch "
            f"it again; if it was replaced on purpose, delete its line in {record}."
        )


def remember(path: Path, weights: EncoderWeights) -> None:
    """Write down the SHA-256 of a file that was read well, if it is used for the first time.

    Raises
    ------
    OutputError
    """
    record = encoders_folder() / _HASHES
    known = _read_hashes(record)
    if _key(weights) not in known:
        known[_key(weights)] = sha256_of(path)
        with atomic_file(record) as stream:
            stream.write(json.dumps(known, indent=1, sort_keys=True).encode())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of weights.

    Raises
    ------
    ModelError
        If it can not be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"{path} can not be read: {reason}. Check the path.") from error


def _key(weights: EncoderWeights) -> str:
    return f"{weights.repository}@{weights.revision}"


def _read_hashes(record: Path) -> dict[str, str]:
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{record}, which holds the SHA-256 of the encoders' weights, can not be read: "
            f"{error}. Delete it if you trust the files beside it."
        ) from None
    return values if isinstance(values, dict) else {}
