"""YAML of unknown origin: plain values only."""

from __future__ import annotations

from typing import Any

import yaml

from unet_studio.errors import ModelError

# Of a description; real ones have a few hundred.
_MOST_VALUES = 100_000
_DEEPEST = 40


def read_yaml(content: bytes, where: str) -> dict[str, Any]:
    """Read a mapping of plain values.

    Parameters
    ----------
    content : bytes
        UTF-8.
    where : str
        What to call it in messages.

    Raises
    ------
    ModelError
        If it is damaged, holds tags that would make objects (``!!python/…``), is no
        mapping, or grows without bound.
    """
    try:
        values = yaml.safe_load(content.decode("utf-8"))
        _check_extent(values, where)
    except ModelError:
        raise
    except Exception as error:  # a tag that does not fit its value brings whatever it meets
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{where} can not be read: {said}. Get the package again.") from None
    if not isinstance(values, dict):
        raise ModelError(f"{where} is no description of a model. Get the package again.")
    return values


def write_yaml(values: dict[str, Any]) -> bytes:
    """Return plain values as YAML, UTF-8, in their order and without aliases."""
    text: str = yaml.dump(values, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)
    return text.encode()


class _PlainDumper(yaml.SafeDumper):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _check_extent(values: Any, where: str) -> None:
    """Walk through all values, but not for ever.

    An alias that stands for a list of aliases is a few bytes that become gigabytes where
    they are walked through.
    """
    waiting, seen = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            waiting += [(v, depth + 1) for v in inner]
        seen += 1
        if seen + len(waiting) > _MOST_VALUES or depth > _DEEPEST:
            raise ModelError(
                f"{where} grows beyond what a description has (by aliases, perhaps). Nothing of "
                "it was used; get it from another place."
            )
