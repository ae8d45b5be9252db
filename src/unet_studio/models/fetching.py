"""Fetching a model of the catalogue: download, check, convert, keep. Only when asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from unet_studio.errors import DownloadError, ModelError, OutputError
from unet_studio.events import CancelToken, Event, Started
from unet_studio.images.atomic import scratch_folder
from unet_studio.models.catalogue import CATALOGUE, ZOO, CatalogueEntry
from unet_studio.models.download import Limits, checked_hash, download
from unet_studio.models.files import SUFFIX
from unet_studio.models.importing import (
    IMPORTERS,
    Imported,
    address_hash,
    import_model,
    target_of,
)
from unet_studio.models.ledger import read_record
from unet_studio.models.partial import file_sha256
from unet_studio.models.store import find_model, home_folder, models_folder

# A server of one's own institution that holds the files of the catalogue.
MIRROR = "UNET_STUDIO_MIRROR"


@dataclass(frozen=True)
class Offer:
    """What a fetch will do, to be shown before it is done.

    Attributes
    ----------
    entry : CatalogueEntry
    url : str
        Where from: the entry's address, or that of the mirror.
    local : bool
        The user named that server.
    here : Path or None
        The file, if it is already on this computer: nothing is downloaded then.
    """

    entry: CatalogueEntry
    url: str
    local: bool
    here: Path | None


def downloads_folder() -> Path:
    """Return the folder of files on their way into the store; it may not exist yet."""
    return home_folder() / "downloads"


def offer(entry: CatalogueEntry) -> Offer:
    """Return what fetching an entry would do. Nothing is asked of the network.

    A file that lies here already is read for its hash, which takes a while if it is large.
    """
    url, local = address_of(entry)
    return Offer(entry, url, local, _found(entry))


def address_of(entry: CatalogueEntry) -> tuple[str, bool]:
    """Return where an entry comes from, and whether the user named that server. Quick."""
    mirror = os.environ.get(MIRROR, "").strip()
    if mirror and not entry.local:
        return f"{mirror.rstrip('/')}/{quote(entry.file)}", True
    return entry.url, entry.local


def fetch_model(
    entry: CatalogueEntry,
    *,
    name: str | None = None,
    replace_existing: bool = False,
    options: Mapping[str, str] | None = None,
    token: CancelToken | None = None,
    tell: Callable[[Event], None] | None = None,
    limits: Limits | None = None,
) -> Imported:
    """Download a model and bring it into the store.

    A file that somebody put into the downloads or models folder under the entry's file
    name is taken instead of the network, if it is the right one.

    Parameters
    ----------
    entry : CatalogueEntry
    name : str, optional
        What to call it; by default the entry's name.
    replace_existing : bool
        Whether a model of that name may be replaced.
    options : mapping of str to str, optional
        Choices of the kind of file that it is.
    token, tell
        For cancelling, and for progress and warnings.
    limits : Limits, optional
        How patient to be.

    Raises
    ------
    DownloadError
        If it does not come, or is not the right file; the message says what to download
        by other means, and where to put it.
    ModelError, OutputError, Cancelled
    """
    what, name = offer(entry), name or entry.name
    if not replace_existing and (present := _present(what, name)):
        return present
    target_of(name, replace=replace_existing)  # before any waiting
    _check_importer(entry)
    with _file_of(what, token, tell, limits) as file:
        _check_start(file, entry)
        if tell is not None:
            tell(Started("importing"))
        try:
            return import_model(
                file,
                name=name,
                importer=entry.importer,
                replace=replace_existing,
                options=options,
                origin=_origin(what),
                published=True,
                address=what.url,
                token=token,
                tell=tell,
            )
        except ModelError:
            # Another process may have fetched the same meanwhile.
            if not replace_existing and (present := _present(what, name)):
                return present
            raise


def instructions(entry: CatalogueEntry) -> str:
    """Return how to get a model onto a computer without a network, in words."""
    lines = [f"Download  {address_of(entry)[0]}"]
    if entry.sha256 or entry.sha256_start:
        digits = entry.sha256 or f"{entry.sha256_start}…"
        lines.append(f"SHA-256   {digits}")
    place = downloads_folder() / entry.file
    lines.append(f"Save as   {place}")
    known = entry.name if entry.name in CATALOGUE else f"{ZOO}{entry.name}"
    then = f"import {place}" if entry.local else f"fetch {known}"
    lines.append(f"Then run  unet-studio models {then}")
    return "\n".join(lines)


def _check_importer(entry: CatalogueEntry) -> None:
    if entry.importer is not None and entry.importer not in IMPORTERS:
        raise ModelError(
            f"{entry.name} can be downloaded, but this version of U-Net Studio can not convert "
            "it. Update U-Net Studio."
        )


def _found(entry: CatalogueEntry) -> Path | None:
    """Look for the right file, put here by hand."""
    if entry.local and not entry.sha256:
        return None  # another file may have the same name
    for folder in (downloads_folder(), models_folder()):
        path = folder / entry.file
        if not path.is_file():
            continue
        digest = file_sha256(path)
        if digest.startswith(entry.sha256 or entry.sha256_start):
            return path
    return None


def _present(what: Offer, name: str) -> Imported | None:
    """Return the model if it was fetched before, or its very file was put into the store."""
    path = models_folder() / f"{name}{SUFFIX}"
    if not path.is_file():
        return None
    record = read_record(path)
    wanted = what.entry.sha256
    fetched = (
        record is not None
        and record.published
        and record.address_sha256 == address_hash(what.url)
        and (not wanted or record.downloaded_sha256 == wanted)
    )
    if fetched or (wanted and file_sha256(path) == wanted):
        return Imported(find_model(path), ("It is already here.",))
    return None


def _origin(what: Offer) -> str:
    """Where it comes from, without a query, which can hold a secret."""
    return what.url.partition("?")[0]


@contextmanager
def _file_of(
    what: Offer,
    token: CancelToken | None,
    tell: Callable[[Event], None] | None,
    limits: Limits | None,
) -> Iterator[Path]:
    """Yield the file: the user's own, or one that is downloaded and removed at the end."""
    if what.here is not None:
        yield what.here
        return
    with scratch_folder(downloads_folder() / "fetch") as folder:
        own = folder / what.entry.file
        for last in (False, True):
            downloaded = _download(what, token, tell, limits)
            try:
                downloaded.rename(own)  # so that no other process takes it away
                break
            except FileNotFoundError:
                if last:
                    raise
        yield own


def _download(
    what: Offer,
    token: CancelToken | None,
    tell: Callable[[Event], None] | None,
    limits: Limits | None,
) -> Path:
    target = downloads_folder() / what.entry.file
    try:
        return download(
            what.url,
            target,
            sha256=what.entry.sha256,
            size_limit=what.entry.size_limit,
            token=token,
            on_event=tell,
            local=what.local,
            limits=limits,
        )
    except DownloadError as error:
        raise DownloadError(f"{error}\n{instructions(what.entry)}") from None
    except OutputError as error:
        raise OutputError(
            f"{error} The environment variable UNET_STUDIO_HOME names the folder for models and "
            "downloads."
        ) from None


def _check_start(file: Path, entry: CatalogueEntry) -> None:
    digest = file_sha256(file)
    if not digest.startswith(entry.sha256 or entry.sha256_start):
        raise DownloadError(
            f"{entry.url} is not the file that was published: its SHA-256 begins with "
            f"{digest[:8]}, not {entry.sha256_start}. It was damaged on the way or replaced, and "
            f"was not kept. Try again, or look at {entry.source}."
        )


def with_hash(entry: CatalogueEntry, sha256: str | None) -> CatalogueEntry:
    """Return an entry with the hash that the user gave, if any.

    Raises
    ------
    DownloadError
        If it is no SHA-256.
    """
    if sha256 is None:
        return entry
    return replace(entry, sha256=checked_hash(sha256, entry.url.partition("?")[0]))
