"""Names of physical units, and how the file formats spell them.

Inside the package a unit has its full name as OME-Zarr wants it ("micrometer").
"""

from __future__ import annotations

from unet_studio.axes import PIXEL

# Full name to the symbol that OME-XML allows.
OME_SYMBOLS = {
    "kilometer": "km",
    "meter": "m",
    "centimeter": "cm",
    "millimeter": "mm",
    "micrometer": "µm",
    "nanometer": "nm",
    "picometer": "pm",
    "angstrom": "Å",
    "inch": "in",
    "day": "d",
    "hour": "h",
    "minute": "min",
    "second": "s",
    "millisecond": "ms",
    "microsecond": "µs",
    "nanosecond": "ns",
    PIXEL: "pixel",
}

_SPELLINGS = {
    **{symbol: name for name, symbol in OME_SYMBOLS.items()},
    "um": "micrometer",
    "μm": "micrometer",  # Greek mu, where OME-XML has the micro sign
    r"\u00b5m": "micrometer",  # as ImageJ escapes it
    "micron": "micrometer",
    "microns": "micrometer",
    "inches": "inch",
    "sec": "second",
    "msec": "millisecond",
    "usec": "microsecond",
    "us": "microsecond",
    "μs": "microsecond",
    "hr": "hour",
    "pixels": PIXEL,
    "reference frame": PIXEL,
    "": PIXEL,
}


def unit_name(text: str | None) -> str:
    """Return the full name of a unit, however a file spells it.

    Parameters
    ----------
    text : str or None
        ``"µm"``, ``"um"``, ``"micron"``, ``"micrometer"``, …

    Returns
    -------
    str
        ``"micrometer"``. A spelling that is not known is given back as it is,
        None and the empty text become ``"pixel"``.
    """
    if text is None:
        return PIXEL
    text = text.strip().strip("\0")
    return _SPELLINGS.get(text) or _SPELLINGS.get(text.lower()) or text
