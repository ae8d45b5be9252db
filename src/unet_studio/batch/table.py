"""One table of all objects of a batch, from the tables of its items."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unet_studio.errors import OutputError, RecipeError
from unet_studio.images.atomic import atomic_file

TABLE, PARQUET = "objects.csv", "objects.parquet"
_WHOLE = ("label", "frame", "pixels", "bbox_")


def join_tables(found: Iterable[tuple[str, Path]], output: Path) -> int:
    """Write ``objects.csv``: every object of the items of a run, and which file it is in.

    Columns that only some items have (those of stacks, of another unit) are empty for the
    others. Rows are in the order of the items, so the table does not depend on the run.

    Parameters
    ----------
    found : iterable of (str, Path)
        Name and table of each item that is complete, in the order wanted.
    output : Path
        Folder to write to.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    tables = [(name, path) for name, path in found if path.is_file()]
    columns: dict[str, None] = {}
    for _, path in tables:
        columns.update(dict.fromkeys(_header(path)))
    rows = 0
    with atomic_file(output / TABLE) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "backslashreplace", newline="")
        writer = csv.DictWriter(text, ["file", *columns], lineterminator="\n")
        writer.writeheader()
        for name, path in tables:
            for row in _rows(path):
                writer.writerow({"file": name, **row})
                rows += 1
        text.flush()
        text.detach()
    return rows


def check_parquet() -> None:
    """Refuse to write Parquet where pyarrow is not installed.

    Raises
    ------
    RecipeError
    """
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise RecipeError(
            "Parquet needs the package pyarrow, which is not installed. Install it with "
            "'pip install pyarrow', or leave --parquet out: the table is written as CSV anyway."
        )


def write_parquet(output: Path) -> Path:
    """Write ``objects.parquet`` from ``objects.csv``, a block at a time.

    Raises
    ------
    OutputError
        If the table can not be converted or written.
    """
    import pyarrow as pa
    import pyarrow.csv as arrow_csv
    import pyarrow.parquet as parquet

    names = _header(output / TABLE)
    kinds = {n: pa.int64() if n.startswith(_WHOLE) else pa.float64() for n in names}
    kinds["file"] = pa.string()
    options = arrow_csv.ConvertOptions(column_types=kinds)
    try:
        with atomic_file(output / PARQUET) as stream:
            reader = arrow_csv.open_csv(
                output / TABLE, convert_options=options,
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            )  # fmt: skip
            with parquet.ParquetWriter(stream, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
    except pa.ArrowException as error:
        raise OutputError(
            f"{output / PARQUET} could not be written: {error}. The table is there as {TABLE}; "
            "leave --parquet out."
        ) from error
    return output / PARQUET


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)
