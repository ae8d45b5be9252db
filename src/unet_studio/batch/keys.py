"""Of what a result is made, as a digest: by it a batch knows what it has done already.

Everything is in it that the labels and files depend on, resolved as a run resolves it:
what is asked for by default and what is asked for by name is the same result.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.batch.inside import LABELS

if TYPE_CHECKING:
    from unet_studio.batch.items import Item
    from unet_studio.batch.job import Job
    from unet_studio.images.volume import VolumeInfo
    from unet_studio.recipe import Normalisation, ObjectsMethod

_READ_BYTES = 2**20
# Of a store's files these are hashed; of the others their names, sizes and times.
_METADATA = (".json", ".zattrs", ".zgroup", ".zarray", ".xml")
# Where and how fast it runs. "backend" gives the same result by its own measurement;
# integers of 8 bits do not, but they are a precision.
_NO_MATTER = {"device", "backend", "version"}


def recipe_key(job: Job, info: VolumeInfo | None = None) -> str:
    """Return the digest of everything but the pixels that decides a result.

    Not the device, and not the pictures: those can be made of complete labels.

    Parameters
    ----------
    job : Job
    info : VolumeInfo, optional
        Of the image. It decides what axes and channels are, if the recipe does not.

    Raises
    ------
    UNetStudioError
        If the recipe fits neither the model nor the image.
    """
    values = _resolved(job, info)
    if job.model_sha256:
        values["model"] = job.model_sha256
    values["written"] = [job.probabilities, job.through_disk, job.into_zarr]
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _resolved(job: Job, info: VolumeInfo | None) -> dict[str, Any]:
    """Return the recipe's values, with the model's own where it leaves them to the model."""
    from unet_studio.inference.channels import map_channels

    recipe, card = job.recipe, job.card
    values = recipe.model_dump(mode="json", exclude=_NO_MATTER)
    # Tiles per pass change a result by rounding at most, as another device does.
    values["tiling"].pop("batch")
    if card is None:
        return values
    if recipe.flips is None:
        values["flips"] = card.flips
    values["normalisation"] = _all_options(recipe.normalisation or card.normalisation)
    timed = info is None or "T" in info.axes
    values["objects"] = _all_objects(recipe.objects or card.default_objects, timed)
    if info is not None:
        values["axes"] = info.axes.names
        values["channels"] = map_channels(recipe.channels, card, info).channels
    return values


def _all_options(normalisation: Normalisation) -> dict[str, Any]:
    from unet_studio.images.normalisers import NORMALISERS

    parameters = inspect.signature(NORMALISERS.load(normalisation.method)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {"method": normalisation.method, "options": {**defaults, **normalisation.options}}


def _all_objects(method: ObjectsMethod, timed: bool) -> dict[str, Any]:
    from unet_studio.objects.methods import parse_options

    # Linking needs a time axis; without one it is left out, with a warning.
    link = method.link.model_dump(mode="json") if method.link is not None and timed else None
    options = parse_options(method).model_dump(mode="json")
    return {"method": method.method, "options": options, "link": link}


def item_key(job: Job, item: Item, info: VolumeInfo | None = None) -> str:
    """Return the digest of all that decides an item's result: recipe, model and input.

    Parameters
    ----------
    job : Job
    item : Item
    info : VolumeInfo, optional
        As for :func:`recipe_key`.

    Raises
    ------
    OSError
        If the input can not be read.
    UNetStudioError
        If the recipe fits neither the model nor the image.
    """
    digest = hashlib.sha256(f"{recipe_key(job, info)} {item.series} ".encode())
    if item.path.is_dir():
        for line in _listing(item.path):
            digest.update(line)
    elif item.path.is_file():  # reading a FIFO would never end
        with item.path.open("rb") as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _listing(folder: Path) -> Iterator[bytes]:
    for parent, folders, names in os.walk(folder):
        if parent == str(folder) and LABELS in folders:
            folders.remove(LABELS)  # what was made of the image, perhaps by us
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            facts = path.stat()
            place = path.relative_to(folder).as_posix()
            yield os.fsencode(f"{place} {facts.st_size} ")
            yield path.read_bytes() if name.endswith(_METADATA) else b"%d" % facts.st_mtime_ns
