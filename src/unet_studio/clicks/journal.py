"""What was done in a click session, line by line, so that it can be done again."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.clicks.prompts import Patch
from unet_studio.errors import ClickError
from unet_studio.plain_json import parse_json

if TYPE_CHECKING:
    from unet_studio.clicks.canvas import Canvas
    from unet_studio.clicks.network import ClickNetwork
    from unet_studio.clicks.session import ClickSession
    from unet_studio.models.model import Model

VERSION = 1


def packed(mask: Patch) -> dict[str, Any]:
    """Return a mask as JSON can hold it."""
    bits = zlib.compress(np.packbits(mask.values.astype(bool)).tobytes())
    return {
        "at": [mask.top, mask.left],
        "shape": list(mask.values.shape),
        "bits": base64.b64encode(bits).decode(),
    }


def unpacked(content: Mapping[str, Any]) -> Patch:
    """Return the mask that :func:`packed` made JSON of."""
    shape = tuple(int(n) for n in content["shape"])
    bits = np.frombuffer(zlib.decompress(base64.b64decode(content["bits"])), np.uint8)
    values = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
    top, left = content["at"]
    return Patch(int(top), int(left), values)


def header_of(canvas: Canvas, network: ClickNetwork) -> dict[str, Any]:
    """Return the first line of a journal: image, model, and the device that it runs on.

    A later line names the device if it is another one from there on.
    """
    from unet_studio import __version__

    info, model = canvas.volume.info, network.model
    return {
        "journal": VERSION,
        "version": __version__,
        "model": str(model.path or model.card.name),
        "sha256": model.sha256,
        "device": network.device,
        "image": {"axes": info.axes.names, "shape": list(info.shape), "dtype": str(info.dtype)},
        "channels": list(canvas.channels),
    }


def lines_of(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return a journal as text: one JSON object per line."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def read_journal(journal: str | Path) -> list[dict[str, Any]]:
    """Read a journal.

    Parameters
    ----------
    journal : str or Path
        A file, or the lines themselves.

    Raises
    ------
    ClickError
        If it can not be read, or is no journal.
    """
    text, name = str(journal), "The journal"
    if isinstance(journal, Path) or not text.lstrip().startswith("{"):
        name = f"The journal {journal}"
        try:
            text = Path(journal).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ClickError(f"{name} can not be read: {error}. Check its name.") from error
    try:
        entries = [parse_json(line) for line in text.splitlines() if line.strip()]
        version = entries[0]["journal"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ClickError(
            f"{name} is not a journal of clicks, or it is damaged. Use one that a session wrote."
        ) from error
    if version != VERSION:
        raise ClickError(
            f"{name} is of version {version}; this program knows {VERSION}. Replay it with the "
            "version of U-Net Studio that wrote it."
        )
    return entries


def replay(
    image: Any,
    journal: str | Path,
    model: str | Path | Model | ClickNetwork | None = None,
    *,
    labels: Any = None,
    **options: Any,
) -> ClickSession:
    """Do again what a session did, and check that each result is the same to the bit.

    Parameters
    ----------
    image : array, Volume or path
        The image of that session.
    journal : str or Path
        What :attr:`ClickSession.journal` gave: a file, or the lines themselves.
    model : str, Path, Model or ClickNetwork, optional
        By default the one that the journal names.
    labels : array of int, optional
        What the labels held when the session began, if they were not empty. Written to.
    **options
        Further parameters of :class:`ClickSession`, such as ``axes``.

    Returns
    -------
    ClickSession
        In the state of the end; the labels that it made are ``session.labels``.

    Raises
    ------
    ClickError
        If image or model are others than those of the journal, or a result differs.
    """
    from unet_studio.clicks.session import ClickSession

    entries = read_journal(journal)
    header = entries[0]
    options.setdefault("channels", header["channels"])
    session = ClickSession(image, model or header["model"], labels=labels, **options)
    own = header_of(session.canvas, session.network)
    for name in ("image", "sha256", "channels"):
        if own[name] != header[name]:
            raise ClickError(
                f"The journal was written with another {name}: {header[name]}, not {own[name]}. "
                "Replay it with what it was written with."
            )
    there = str(header.get("device", "another device"))
    for number, entry in enumerate(entries[1:], 2):
        there = str(entry.get("device", there))  # from here on
        _DO[entry["do"]](session, entry)
        if session.entries[-1].get("result") != entry.get("result"):
            here = session.network.device
            moved = f" It was written on {there}, this is {here}."
            raise ClickError(
                f"Line {number} of the journal ({entry['do']}) gave another result here. The "
                "image or the computer's numerics have changed."
                + moved * (there != here)
                + " Replay it where it was written, or click anew."
            )
    return session


def _start(session: ClickSession, entry: dict[str, Any]) -> None:
    planes = {tuple(place): unpacked(mask) for place, mask in entry["planes"]}
    session.start_planes(planes, entry["origin"], replaces=entry["replaces"])


def _propagate(session: ClickSession, entry: dict[str, Any]) -> None:
    steps = session.propagate(entry["axis"], before=entry["before"], after=entry["after"])
    for _ in steps:
        pass


def _commit(session: ClickSession, entry: dict[str, Any]) -> None:
    session.commit(policy=entry["policy"], number=entry["id"])


_DO: dict[str, Any] = {
    "click": lambda s, e: s.click(e["position"], e["positive"]),
    "unclick": lambda s, e: s.unclick(e["position"]),
    "scribble": lambda s, e: s.scribble(e["points"], e["positive"]),
    "box": lambda s, e: s.box(e["start"], e["stop"]),
    "start": _start,
    "undo": lambda s, e: s.undo(),
    "redo": lambda s, e: s.redo(),
    "reset": lambda s, e: s.reset(),
    "commit": _commit,
    "erase": lambda s, e: s.erase_again(e["position"], e.get("id")),
    "propagate": _propagate,
}
