"""JSON of unknown origin."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_json"]


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        If it is none, or so deeply nested that Python does not read it: whoever asks about
        a damaged file should not have to know of a RecursionError.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
