"""Small pictures of each result on its image, and sheets of them that a person can scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.batch.job import ItemResult, Task
from unet_studio.batch.results import OVERLAY
from unet_studio.images.atomic import atomic_file
from unet_studio.images.writers import beside_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

    from unet_studio.axes import Axes
    from unet_studio.images.volume import Volume

SHEET = "contact_sheet.png"
_EDGE = 256  # longest edge of a picture, in pixels
# Of a larger plane the middle is shown: an image may be larger than memory.
_LARGEST_PLANE = 4096
_COLUMNS, _ROWS = 6, 8
_GAP, _CAPTION = 8, 36
_TEXT = 13
_PAPER, _INK, _WRONG = (24, 24, 24), (230, 230, 230), (255, 140, 120)


def overlay_picture(
    volume: Volume, labels: Any, axes: Axes, channels: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Draw the objects of the middle plane of an image on it, small.

    Parameters
    ----------
    volume : Volume
    labels : numpy or Zarr array of int
        Axes as in ``axes``, without C; as long as the image.
    axes : Axes
    channels : sequence of int, optional
        Which to show, the first alone or three as red, green and blue; by default
        the first ones.

    Returns
    -------
    array of uint8, axes (Y, X, 3)
        At most 256 pixels along each edge. Of the first time point; of a plane of more than
        4,096 pixels along an edge the middle.
    """
    from PIL import Image

    from unet_studio.objects.contingency import compact
    from unet_studio.objects.overlay import paint_objects, to_display

    region: dict[str, slice | int] = {}
    for axis in axes.names:
        length = int(labels.shape[axes.index(axis)])
        if axis in "YX":
            start = max(0, (length - _LARGEST_PLANE) // 2)
            region[axis] = slice(start, min(length, start + _LARGEST_PLANE))
        else:
            region[axis] = length // 2 if axis == "Z" else 0
    plane = np.asarray(labels[tuple(region[a] for a in axes.names)])
    if axes.names.index("X") < axes.names.index("Y"):
        plane = plane.T
    image = volume.read(region, None if volume.rgb else channels)
    rows, columns = _size(plane.shape)
    ids = plane[np.ix_(_nearest(plane.shape[0], rows), _nearest(plane.shape[1], columns))]
    ids = compact(ids)[1]  # a colour for each that is seen, not for each there is
    bytes_ = np.asarray(to_display(_reduced(image)) * 255, np.uint8)
    # A box takes the mean of what it covers; of an image that is enlarged, the nearest pixel.
    picture = Image.fromarray(bytes_).resize((columns, rows), Image.Resampling.BOX)
    drawn = paint_objects((np.asarray(picture) / 255).astype(np.float32), ids)
    return np.asarray(drawn * 255, np.uint8)


def write_overlay(
    path: Path, volume: Volume, labels: Any, axes: Axes, channels: Sequence[int] | None = None
) -> Path:
    """Write :func:`overlay_picture` as a PNG, whole or not at all.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    from PIL import Image

    picture = overlay_picture(volume, labels, axes, channels)
    with atomic_file(path) as stream:
        Image.fromarray(picture).save(stream, format="PNG")
    return path


def complete_overlay(
    task: Task, axes: str | None, labels: Path, record: dict[str, Any]
) -> dict[str, Any]:
    """Write the picture of a result that is complete but for it, and add it to the record.

    Parameters
    ----------
    task : Task
    axes : str or None
        Those of the image, if it does not say itself.
    labels : Path
        Of the result.
    record : dict
        Of the result.

    Returns
    -------
    dict
        The record, as it is now. Untouched if the picture is there.

    Raises
    ------
    ImageError
        If the image or the labels can not be read.
    OutputError
        If the folder or the disk does not take it.
    """
    from unet_studio.images.readers import read_image
    from unet_studio.images.records import LABELS_AT, record_path
    from unet_studio.images.writers import disown, write_record

    path = beside_labels(task.target, OVERLAY, ".png")
    names = list(record["outputs"])
    if path.name in names and is_picture(path):
        return record
    volume = read_image(task.item.path, axes, series=task.item.series)
    made = read_image(labels)
    channels = record.get("recipe", {}).get("channels")
    write_overlay(path, volume, made.array, made.axes, channels)
    if path.name in names:  # it was lost or damaged
        return record
    disown(task.target, [path.name])
    record = {**record, "outputs": [*names, path.name]}
    write_record(record, record_path(task.target if LABELS_AT in record else labels))
    return record


def is_picture(path: Path) -> bool:
    """Whether a file is a picture that can be read to its end."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError):  # PIL's words for a damaged PNG
        return False
    return True


def write_sheets(results: Sequence[ItemResult], output: Path) -> list[Path]:
    """Write contact sheets: the pictures of 48 items on each, with name and what was found.

    Items that failed are there, too, with their reason. Sheets of an earlier run that are
    no longer needed are removed.

    Parameters
    ----------
    results : sequence of ItemResult
        In the order wanted.
    output : Path
        Gets ``contact_sheet.png``, ``contact_sheet_2.png`` and so on, and a record that tells
        them from images.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    from unet_studio.images.records import outputs_of, record_path
    from unet_studio.images.writers import write_record

    record = record_path(output / SHEET)
    older = {output / name for name in outputs_of(record)}
    each = _COLUMNS * _ROWS
    sheets = []
    for start in range(0, len(results), each):
        number = start // each + 1
        path = output / (SHEET if number == 1 else SHEET.replace(".png", f"_{number}.png"))
        with atomic_file(path) as stream:
            _sheet(results[start : start + each]).save(stream, format="PNG")
        sheets.append(path)
    for path in older - set(sheets):
        path.unlink(missing_ok=True)
    write_record({"outputs": [p.name for p in sheets], "versions": _versions()}, record)
    return sheets


def _size(shape: Sequence[int]) -> tuple[int, int]:
    """Return rows and columns of the picture of a plane; tiny ones are enlarged."""
    longest = max(shape)
    scale = _EDGE / longest if longest > _EDGE else _EDGE // longest
    rows, columns = (max(1, round(n * scale)) for n in shape)
    return rows, columns


def _nearest(length: int, wanted: int) -> NDArray[np.intp]:
    return np.asarray((np.arange(wanted) + 0.5) * length / wanted, np.intp)


def _reduced(image: NDArray[Any]) -> NDArray[np.float32]:
    """Average blocks of pixels, axes (C, Y, X), to about twice as many as are shown."""
    channels, rows, columns = image.shape
    step = max(1, max(rows, columns) // (2 * _EDGE))
    down, across = min(step, rows), min(step, columns)
    rows, columns = rows // down, columns // across
    cut = image[:, : rows * down, : columns * across].astype(np.float32)
    blocks = cut.reshape(channels, rows, down, columns, across)
    return np.asarray(blocks.mean((2, 4)), np.float32)


def _sheet(results: Sequence[ItemResult]) -> Picture:
    from PIL import Image, ImageDraw, ImageFont

    columns = min(_COLUMNS, len(results))
    rows = -(-len(results) // columns)
    wide, high = _EDGE + _GAP, _EDGE + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT)
    for number, result in enumerate(results):
        left = _GAP + number % columns * wide
        top = _GAP + number // columns * high
        lines = [result.name, result.found]
        if result.state == "failed":
            box = (left, top, left + _EDGE - 1, top + _EDGE - 1)
            draw.rectangle(box, outline=_WRONG)
            text = _wrapped(draw, _without_folder(result), font)
            draw.multiline_text((left + 8, top + 8), text, _WRONG, font)
            lines = [result.name, "failed"]
        elif result.overlay and is_picture(Path(result.overlay)):
            with Image.open(result.overlay) as picture:
                at = [o + (_EDGE - n) // 2 for o, n in zip((left, top), picture.size, strict=True)]
                sheet.paste(picture, (at[0], at[1]))
        for line, text in enumerate(lines):
            place = (left, top + _EDGE + 3 + line * (_TEXT + 2))
            draw.text(place, _fitting(draw, text, font), _INK, font)
    return sheet


def _without_folder(result: ItemResult) -> str:
    """Return why it failed. A sheet is handed on: where the images lie is nobody's business."""
    return result.reason.replace(str(Path(result.path).parent / "_")[:-1], "")


def _fitting(draw: Any, text: str, font: Any) -> str:
    """Shorten a text in its middle until it fits below a picture."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if draw.textlength(text, font) <= _EDGE:
        return text
    kept = len(text)
    while kept > 2 and draw.textlength(_cut(text, kept), font) > _EDGE:
        kept -= 1
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    return text[: kept // 2] + "…" + text[len(text) - (kept - kept // 2) :]


def _wrapped(draw: Any, text: str, font: Any) -> str:
    """Break a text into lines that fit into a picture; what is too much is left out."""
    lines = [""]
    for word in text.split():
        word = _fitting(draw, word, font)
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= _EDGE - 16:
            lines[-1] = longer
        else:
            lines.append(word)
    most = (_EDGE - 16) // (_TEXT + 4)
    return "\n".join(lines[:most])


def _versions() -> dict[str, str]:
    from unet_studio import __version__

    return {"napari-unet-studio": __version__}
