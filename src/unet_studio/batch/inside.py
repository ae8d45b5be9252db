"""Labels inside the OME-Zarr they are of: ``labels/<name>``, and nothing else of it touched."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.batch.items import Item
from unet_studio.errors import OutputError, RecipeError
from unet_studio.images.atomic import atomic_file
from unet_studio.images.zarr_marker import is_complete, is_ours, key_of
from unet_studio.plain_json import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.axes import Axes

LABELS = "labels"
_NAME = re.compile(r"[A-Za-z0-9_][\w.\- ]{0,79}")


def check_name(name: str) -> None:
    """Refuse a name that can not be that of a group in a store.

    Raises
    ------
    RecipeError
    """
    if not _NAME.fullmatch(name) or name in ("zarr.json", "c"):
        raise RecipeError(
            f"{name!r} can not be the name of labels in an OME-Zarr. Use up to 80 letters, "
            "digits, '_', '-' and '.', such as 'nuclei'."
        )


def place_inside(item: Item, name: str) -> Path | None:
    """Return where the labels of an item go within it; None if it is no OME-Zarr."""
    return item.path / LABELS / name if item.path.is_dir() else None


def check_inside(place: Path) -> None:
    """Refuse a store that labels can not be added to, before hours of work.

    Raises
    ------
    OutputError
        If the store is of another version than 0.5, has consolidated metadata, or labels
        of this name are there that this program did not write.
    """
    store = place.parent.parent
    if not (store / "zarr.json").is_file():
        raise OutputError(
            f"{store} is OME-Zarr 0.4; labels can be added to OME-Zarr 0.5 only. Convert it, or "
            "leave --into-zarr out: labels then go to the output folder."
        )
    if "multiscales" not in _ome(store / "zarr.json"):
        raise OutputError(
            f"{store} is no OME-Zarr image (no multiscales metadata), so labels have no place in "
            "it. Leave --into-zarr out: labels then go to the output folder."
        )
    if consolidated := _consolidated(place.parent):
        raise OutputError(
            f"{consolidated} has consolidated metadata: programs that go by them would not see "
            "labels that are added. Leave --into-zarr out, and labels go to the output folder; or "
            "take the consolidated metadata out, and call zarr.consolidate_metadata when the "
            "labels are there."
        )
    if place.exists() and not is_ours(place):
        raise OutputError(
            f"{place} exists and was not written by this program, so it stays. Choose another "
            "name for --into-zarr."
        )


def write_inside(
    labels: NDArray[Any], axes: Axes, place: Path, target: Path, key: str = ""
) -> Path:
    """Write labels into the store they are of, and into its list of labels.

    Parameters
    ----------
    labels : array of int, axes as in ``axes``, without C
    axes : Axes
    place : Path
        ``<store>/labels/<name>``.
    target : Path
        Whose run record is removed first: where one is, all is complete. The tables and the
        picture of that older result go when the new labels are there.
    key : str
        What the labels are made of: tells them from those of another run under this name.

    Returns
    -------
    Path
        ``place``.

    Raises
    ------
    OutputError
        If the store or the disk does not take it.
    """
    from unet_studio.images.ome_zarr import write
    from unet_studio.images.writers import remove_files, remove_records

    check_inside(place)
    older = remove_records(target)
    write(labels, axes, place, metadata={"key": key}, labels=True)
    list_labels(place)
    remove_files(older)
    return place


def list_labels(place: Path) -> None:
    """Add labels that were written to the list of the store's labels, if they are not in it.

    Parameters
    ----------
    place : Path
        ``<store>/labels/<name>``. What else the list and its group say stays.

    Raises
    ------
    OutputError
        If the list can not be read or written.
    """
    path = place.parent / "zarr.json"
    content: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}
    if path.is_file():
        try:
            content = parse_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise OutputError(f"{path} can not be read: {error}. Mend it.") from error
    try:
        ome = content.setdefault("attributes", {}).setdefault("ome", {})
        names = ome.setdefault("labels", [])
        ome.setdefault("version", "0.5")
    except AttributeError:
        raise OutputError(f"{path} is no list of labels as OME-Zarr has it. Mend it.") from None
    if place.name not in names:
        names.append(place.name)
        with atomic_file(path) as stream:
            stream.write(json.dumps(content, indent=2).encode())


def is_listed(place: Path, key: str) -> bool:
    """Whether labels are complete, made of what ``key`` says, and in the list of their store."""
    listed = _ome(place.parent / "zarr.json").get("labels")
    named = isinstance(listed, list) and place.name in listed
    # Another run, of another recipe, may have put its labels in their place since.
    return named and key_of(place) == key and is_complete(place)


def _consolidated(group: Path) -> Path | None:
    """Return the file in which a group, or one around it, keeps metadata of what is in it."""
    for folder in (group, *group.parents):
        described = folder / "zarr.json"
        if folder != group and not described.is_file():
            return None  # out of the hierarchy
        if (folder / ".zmetadata").is_file():
            return folder / ".zmetadata"
        try:
            content = parse_json(described.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("consolidated_metadata"):
            return described
    return None


def _ome(path: Path) -> dict[str, Any]:
    try:
        ome = parse_json(path.read_bytes())["attributes"]["ome"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return ome if isinstance(ome, dict) else {}
