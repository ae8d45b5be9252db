"""Which versions of what are installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed.

    Looked up once: the file that says so takes more than a millisecond to parse, and every
    run asks for a dozen.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None
