"""Test tensors of packages: ``.npy`` without pickles, and no larger than they say."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from unet_studio.errors import ModelError


def read_npy(content: bytes, where: str) -> NDArray[Any]:
    """Read an array of numbers.

    Parameters
    ----------
    content : bytes
        Of the file.
    where : str
        What to call it in messages.

    Raises
    ------
    ModelError
        If it is damaged, holds anything but numbers, or declares more than it has.
    """
    stream = io.BytesIO(content)
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.kind not in "fiub":
            raise ValueError(f"it holds {dtype}, not numbers")
        # Compared before memory is taken: a header of 130 bytes can ask for terabytes.
        if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError("its length is not that of its shape")
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        raise ModelError(
            f"{where} is no array that can be read: {error}. Get the package again."
        ) from None
    return array
