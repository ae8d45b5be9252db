"""What the window needs to know of a session of clicks, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

    from unet_studio.clicks.commit import Edit
    from unet_studio.clicks.objects import Proposal
    from unet_studio.clicks.propagation import Propagation
    from unet_studio.clicks.session import ClickSession


OVERLAPS = "Overlaps"  # title of the row of policies
POLICY_TITLES = {
    "keep": "Others keep their pixels",
    "overwrite": "The new object takes them",
    "background": "Write on background only",
}
NO_PIXEL_LEFT = (
    "Nothing was changed: other objects have all of its pixels. Choose "
    f"{POLICY_TITLES['overwrite']!r} for {OVERLAPS}, and commit again."
)


@dataclass(frozen=True)
class Setup:
    """What a session begins with.

    Attributes
    ----------
    layer : napari image layer
    axes : str or None
        The user's reading, where axes are ambiguous.
    channels : tuple of int or None
        To look at; None for the first three.
    model : Path
    device : str
    journal : Path or None
        To restore a session from.
    """

    layer: Image
    axes: str | None
    channels: tuple[int, ...] | None
    model: Path
    device: str = "auto"
    journal: Path | None = None


@dataclass(frozen=True)
class State:
    """A session as it is after one thing was done.

    Attributes
    ----------
    proposal : Proposal
        On the plane that was worked on last.
    planes : tuple of Proposal
        Those that have some of the object.
    pointed : tuple of Proposal
        Those that were pointed at.
    undo, redo : str
        What could be taken back and done again.
    replaces : int
        Id of the object that is corrected.
    edits : tuple of Edit
    """

    proposal: Proposal
    planes: tuple[Proposal, ...] = ()
    pointed: tuple[Proposal, ...] = ()
    undo: str = ""
    redo: str = ""
    replaces: int = 0
    edits: tuple[Edit, ...] = ()


def state_of(session: ClickSession) -> State:
    """Return the state of a session. Called where the session is used."""
    return State(
        session.proposal, session.proposals, session.pointed, session.can_undo,
        session.can_redo, session.replaces, tuple(session.edits),
    )  # fmt: skip


def told_of(proposal: Proposal) -> tuple[str, str]:
    """Return what the user is told of an answer: how serious it is, and the words."""
    if not proposal.changed:
        return "warning", proposal.note
    if not proposal.area:
        return "info", proposal.note or "Nothing is there any more. Click on an object."
    parts = [f"{proposal.area:,} px", f"{1000 * proposal.seconds:.0f} ms"]
    if proposal.origin != "clicks":
        parts.insert(0, _first_upper(proposal.origin))
    if proposal.confidence:
        parts.append(f"expected IoU {proposal.confidence:.2f}")
    lines = [" · ".join(parts)]
    if proposal.corrected:
        lines.append(f"The network's answer was corrected: {', '.join(proposal.corrections)}.")
    if proposal.note:
        lines.append(proposal.note)
    return "good", "\n".join(lines)


def told_of_taken(proposal: Proposal, where: str) -> tuple[str, str]:
    """Return what the user is told of an object that was there already.

    Parameters
    ----------
    proposal : Proposal
    where : str
        The layer that it was taken from.
    """
    if not proposal.changed:
        return "warning", proposal.note
    how = _first_upper(proposal.origin) if proposal.origin != "mask" else "Taken"
    return "good", f"{how} ({where}) · {proposal.area:,} px. Clicks correct it."


def told_of_way(found: Propagation) -> str:
    """Return what the user is told of a propagation."""
    word = {"Z": "slices", "T": "frames"}.get(found.axis, "planes")
    ends = [
        f"{side}: {why}"
        for side, why in (("downwards", found.before), ("upwards", found.after))
        if why
    ]
    return f"The object is on {word} {found.first} to {found.last}" + (
        f" ({'; '.join(ends)})." if ends else "; stopped."
    )


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
