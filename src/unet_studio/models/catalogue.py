"""Models that can be fetched: where from, how large, under which licence.

Nothing here contacts the network. To add a model, add an entry; if its file is of a
kind that has to be converted, name the importer
(:data:`unet_studio.models.importing.IMPORTERS`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from unet_studio.errors import ModelError
from unet_studio.models.addresses import parse_address
from unet_studio.models.store import list_models
from unet_studio.user_paths import user_path

_GIB = 1 << 30
ZOO = "zoo:"
_ZOO_PACKAGE = "https://hypha.aicell.io/bioimage-io/artifacts/{id}/create-zip-file"
_ZOO_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that can be fetched.

    Attributes
    ----------
    name : str
        What it will be called in the store.
    url : str
    file : str
        Name of the file as offered, for those who download it elsewhere.
    finds : str
        In a few words.
    licence, source : str
        SPDX name, or "unknown"; a page that describes the model.
    size : int
        Bytes, roughly; 0 if unknown.
    size_limit : int
        More than this is refused.
    sha256 : str or None
        Of the file; None if it was not published.
    sha256_start : str
        First digits, where only those were published (the habit of torch.hub).
    importer : str or None
        Name in :data:`~unet_studio.models.importing.IMPORTERS`; None to find out by the file.
    local : bool
        The user typed the address, so it may be in their own network.
    """

    name: str
    url: str
    file: str
    finds: str = ""
    licence: str = "unknown"
    source: str = ""
    size: int = 0
    size_limit: int = 4 * _GIB
    sha256: str | None = None
    sha256_start: str = ""
    importer: str | None = None
    local: bool = False


CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="brain-mri",
            url=(
                "https://github.com/mateuszbuda/brain-segmentation-pytorch/releases/download/"
                "v1.0/unet-e012d006.pt"
            ),
            file="unet-e012d006.pt",
            finds="abnormality in FLAIR, in brain MRI slices",
            licence="MIT",
            source="https://pytorch.org/hub/mateuszbuda_brain-segmentation-pytorch_unet/",
            size=31_100_000,
            size_limit=64 << 20,
            sha256_start="e012d006",
            importer="brain-mri",
        ),
    )
}


def find_entry(reference: str) -> CatalogueEntry:
    """Return what a user asked to fetch.

    Parameters
    ----------
    reference : str
        A name of :data:`CATALOGUE`, ``zoo:ID`` for a model of the BioImage Model Zoo
        ("zoo:affable-shark"), or an address.

    Raises
    ------
    ModelError
        If it is none of these.
    """
    if reference in CATALOGUE:
        return CATALOGUE[reference]
    if reference.startswith(ZOO):
        return _zoo_entry(reference.removeprefix(ZOO))
    if "://" in reference:
        return entry_of_address(reference)
    known = ", ".join(CATALOGUE) or "none"
    if user_path(reference).exists():
        raise ModelError(
            f"{reference} is here already: `unet-studio models import {reference}` takes it."
        )
    if any(entry.name == reference for entry in list_models()):
        raise ModelError(f"The model {reference!r} is here already; there is nothing to fetch.")
    raise ModelError(
        f"There is no model {reference!r} to fetch. Known: {known}. Or give zoo:ID for a model of "
        "the BioImage Model Zoo, or an address that begins with https://."
    )


def entry_of_address(url: str, sha256: str | None = None) -> CatalogueEntry:
    """Return the entry of an address that the user typed.

    Raises
    ------
    DownloadError
        If it is not an address that can be used.
    """
    address = parse_address(url)
    last = unquote(address.path.partition("?")[0].rpartition("/")[2])
    file = re.sub(r"[^\w.-]+", "_", last).strip("._") or "model"
    return CatalogueEntry(
        name=file.partition(".")[0], url=url, file=file[-120:], sha256=sha256, local=True
    )


def search(entries: dict[str, CatalogueEntry], words: str) -> list[CatalogueEntry]:
    """Return the entries in which every word occurs, in their order."""
    wanted = words.casefold().split()
    texts = {name: f"{name} {e.finds} {e.licence}".casefold() for name, e in entries.items()}
    return [e for name, e in entries.items() if all(word in texts[name] for word in wanted)]


def _zoo_entry(identity: str) -> CatalogueEntry:
    if not _ZOO_ID.fullmatch(identity):
        raise ModelError(
            f"{identity!r} is not the name of a model of the BioImage Model Zoo; they read like "
            "affable-shark. Look it up at https://bioimage.io."
        )
    return CatalogueEntry(
        name=identity,
        url=_ZOO_PACKAGE.format(id=quote(identity)),
        file=f"{identity}.zip",
        finds="see its page",
        source=f"https://bioimage.io/#/artifacts/{identity}",
        importer=None,
    )
