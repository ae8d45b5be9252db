"""``unet-studio click``: an image and clicks in, labels of the clicked objects out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_studio.cli.console import SOME_FAILED, complain, say, warn
from unet_studio.errors import ClickError, OutputError, UNetStudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.clicks.groups import Group
    from unet_studio.clicks.session import ClickSession


def click_command(
    image: Annotated[Path, typer.Argument(help="Image file or OME-Zarr folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of the labels, such as mask.tif.")
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            help="A click on the object, in pixels from 0: Y,X, or Z,Y,X, in the order of the "
            "image's axes without channels. Can be repeated.",
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option("--not", help="A click on what is not part of it. Can be repeated."),
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option(
            help="Table (CSV) of clicks instead, for many objects: columns of the axes' letters, "
            "object, and positive (1 or 0)."
        ),
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Do again what this journal says, instead of clicks.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Name or path of a model that answers clicks (clicks)."
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="One letter out of T, C, Z, Y, X per dimension, such as ZYX."),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Up to three channels to look at, counted from 0, such as 0 or 0,1,2."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Follow each object to neighbouring slices or frames."),
    ] = False,
    policy: Annotated[
        str,
        typer.Option(
            help="keep: objects that are there keep their pixels; overwrite: the new one takes "
            "them; background: only background is written on."
        ),
    ] = "keep",
    labels: Annotated[
        Path | None, typer.Option(help="Labels to add the objects to. This file is not changed.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Write all that was done to this file.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Segment single objects by clicking on them.

    The labels hold each object under a number of its own, in the order of the clicks. All
    --at and --not belong to one object: first those on it, then those beside it. An object
    that can not be had is named, the others are written, and the exit code is 2.
    """
    sources = [bool(at or beside), clicks is not None, replay is not None]
    if sum(sources) != 1:
        raise ClickError("Say where to click: --at Y,X, or --clicks TABLE, or --replay JOURNAL.")
    for path in (output, journal):
        if path is not None and path.exists():
            raise OutputError(f"{path} exists and stays as it is. Choose another name.")
    positive, negative = ([_position(text) for text in given or []] for given in (at, beside))
    from unet_studio.cli.flags import channel_numbers
    from unet_studio.clicks.commit import check_policy
    from unet_studio.clicks.groups import group_of, read_groups
    from unet_studio.clicks.journal import replay as do_again
    from unet_studio.clicks.session import ClickSession

    check_policy(policy)
    options: dict[str, Any] = {
        "axes": axes,
        "channels": channel_numbers(channels),
        "device": device,
    }
    start = None if labels is None else _read_labels(labels, image, axes)
    if replay is not None:
        known = {key: value for key, value in options.items() if value is not None}
        session = do_again(image, replay, model, labels=start, **known)
        _say_notices(session)
        _write(session, output, journal)
        return
    session = ClickSession(image, model or "clicks", labels=start, **options)
    told = _say_notices(session)
    own = session.canvas.axes
    groups = read_groups(clicks, own) if clicks else (group_of(positive, negative),)
    try:
        failed = [g.name for g in groups if not _click(session, g, follow, policy)]
    finally:
        _say_notices(session, told)
    if len(failed) < len(groups):
        _write(session, output, journal)
    if failed:
        complain(f"{len(failed)} of {len(groups)} objects failed: {', '.join(failed)}")
        raise typer.Exit(SOME_FAILED)


def _position(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ClickError(
            f"{text!r} is no position; write numbers with commas between, such as 60,80."
        ) from None


def _read_labels(path: Path, image: Path, axes: str | None) -> NDArray[Any]:
    """Return a copy of labels whose axes are the image's without channels."""
    import numpy as np

    from unet_studio.images.readers import read_image

    own = read_image(image, axes).axes.names.replace("C", "")
    return np.array(read_image(path, own).array[:])


def _click(session: ClickSession, group: Group, follow: bool, policy: str) -> bool:
    """Click one object and commit it; say what was found, or why nothing."""
    notes: list[str] = []
    try:
        for position, positive in group.clicks:
            if note := session.click(position, positive).note:
                notes.append(note)
        reached = ""
        if follow and session.canvas.plane_axes and session.proposal.area:
            planes = 1 + sum(1 for _ in session.propagate())
            reached = f" on {planes} planes"
        confidence, corrections = session.proposal.confidence, session.proposal.corrections
        area = sum(proposal.area for proposal in session.proposals)
        done = session.commit(policy=policy)
    except UNetStudioError as error:
        session.reset()
        complain(f"object {group.name}: {error}")
        return False
    if not done.id:
        session.reset()
        complain(f"object {group.name}: {' '.join(dict.fromkeys([*notes, done.note]))}")
        return False
    for note in notes:
        warn(f"object {group.name}: {note}")
    how = f" ({', '.join(corrections)})" if corrections else ""
    say(
        f"object {group.name}: number {done.id}, {area} pixels{reached}, expected IoU "
        f"{confidence:.2f}{how}"
    )
    return True


def _say_notices(session: ClickSession, told: int = 0) -> int:
    """Say what there is to say of a session, after what was told; return how much that is."""
    for text in session.notices[told:]:
        warn(text)
    return len(session.notices)


def _write(session: ClickSession, output: Path, journal: Path | None) -> None:
    """Write labels and journal."""
    from unet_studio.images.atomic import atomic_file
    from unet_studio.images.writers import write_labels

    if session.labels is None:
        raise ClickError(
            f"Nothing was committed, so there are no labels to write to {output}. Click on an "
            "object."
        )
    volume = session.canvas.volume
    axes = volume.axes.without("C")
    written = write_labels(session.labels, axes, output, metadata=volume.metadata)
    if journal is not None:
        with atomic_file(journal) as stream:
            stream.write(session.journal.encode())
    say(f"{written}")
