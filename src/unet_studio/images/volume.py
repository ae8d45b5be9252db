"""The engine's only idea of an image: a lazily readable array with named axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import Axes, looks_like_colour, rearrange, resolve_axes
from unet_studio.errors import AxesError, ImageError, storage_errors


@runtime_checkable
class ArrayLike(Protocol):
    """What numpy, dask and zarr arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        ...

    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True)
class VolumeInfo:
    """What can be known of a volume without reading a pixel.

    Attributes
    ----------
    shape : tuple of int
        In the order of ``axes``.
    dtype : numpy.dtype
    axes : Axes
    name : str
    rgb : bool
        The channel axis holds red, green, blue (and perhaps alpha).
    chunked : bool
        Stored or computed in chunks (Zarr, dask): each is read whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: Axes
    name: str = "image"
    rgb: bool = False
    chunked: bool = False

    def length(self, axis: str) -> int:
        """Return the length along an axis; 1 if there is no such axis."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def channels(self) -> int:
        """Number of channels; alpha does not count."""
        return 3 if self.rgb else self.length("C")


@dataclass(frozen=True)
class Volume:
    """A lazily readable image.

    Attributes
    ----------
    array : numpy, dask or zarr array
        Never written to.
    axes : Axes
        In the order of the array.
    name : str
        Short name for layers and messages.
    source : str
        File or layer it came from.
    rgb : bool
        The channel axis holds red, green, blue (and perhaps alpha, which is ignored).
    channel_names : tuple of str
    metadata : mapping
        What a writer of the same file family needs to give back, such as the
        NIfTI affine. Not interpreted by the engine.
    """

    array: ArrayLike
    axes: Axes
    name: str = "image"
    source: str = ""
    rgb: bool = False
    channel_names: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        check_array(self.array, self.name)
        if len(self.array.shape) != len(self.axes):
            raise AxesError(
                f"{self.name!r} has {len(self.array.shape)} dimensions (shape "
                f"{tuple(self.array.shape)}), but its axes are {self.axes.names}. Give one letter "
                "per dimension."
            )
        if self.rgb and self.info.length("C") not in (3, 4):
            raise AxesError(
                f"{self.name!r} is marked as RGB but has {self.info.length('C')} channels. Take "
                "the mark off (rgb=False), or give 3 or 4 channels."
            )

    @property
    def info(self) -> VolumeInfo:
        """Shape, dtype and axes, without reading a pixel."""
        return VolumeInfo(
            tuple(int(n) for n in self.array.shape),
            np.dtype(self.array.dtype),
            self.axes,
            self.name,
            self.rgb,
            bool(getattr(self.array, "chunks", None)),
        )

    def read(
        self,
        region: Mapping[str, slice | int] | None = None,
        channels: Sequence[int] | None = None,
    ) -> NDArray[Any]:
        """Read part of the image into memory.

        Parameters
        ----------
        region : mapping of axis letter to slice or int
            Axes that are not named are read in full; an int drops its axis.
        channels : sequence of int, optional
            Which channels, in which order; all by default.

        Returns
        -------
        array
            Native byte order. Axes in canonical order ``[T] C [Z] Y X``; C is
            always there, of length 1 if the image has no channel axis.

        Raises
        ------
        ImageError
            If the data can not be read; the message names the region.
        """
        wanted = dict(region or {})
        if "C" not in self.axes:
            block = self._read(wanted)
            order = self._remaining(wanted)
            target = "".join(a for a in "TZYX" if a in order)
            block = rearrange(block, order, target)
            block = np.expand_dims(block, 1 if "T" in target else 0)
            if channels is not None and tuple(channels) != (0,):
                block = np.take(block, channels, axis=1 if "T" in target else 0)
            return block
        picked = range(self.info.channels) if channels is None else channels
        order = self._remaining(wanted)
        target = "".join(a for a in "TCZYX" if a in order)
        parts = [
            rearrange(self._read({**wanted, "C": run}), order, target) for run in _runs(picked)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=target.index("C"))

    @property
    def concurrent(self) -> bool:
        """Whether several threads may read at once."""
        return may_read_at_once(self.array)

    def in_memory(self) -> Volume:
        """Return the same volume with all of its pixels read.

        Raises
        ------
        ImageError
            If the data can not be read.
        """
        return replace(self, array=self._read({}))

    def _remaining(self, region: Mapping[str, slice | int]) -> str:
        return "".join(a for a in self.axes.names if not isinstance(region.get(a), int))

    def _read(self, region: Mapping[str, slice | int]) -> NDArray[Any]:
        key = tuple(region.get(a, slice(None)) for a in self.axes.names)
        damaged = storage_errors(
            lambda why: ImageError(
                f"{self.source or self.name} could not be read{self._where(key)}: {why}. The file "
                "may be damaged; restore it or leave this part out."
            )
        )
        try:
            with damaged:
                block = np.asarray(self.array[key])
        except MemoryError as error:
            raise ImageError(
                f"{self.source or self.name} could not be read: there is not enough memory for "
                "this part. Close other programs, or save the image as OME-Zarr or tiled TIFF, "
                "which can be read in smaller parts."
            ) from error
        return block.astype(block.dtype.newbyteorder("="), copy=False)

    def _where(self, key: tuple[slice | int, ...]) -> str:
        """Name the block that fails, or else the region that was asked for."""
        from unet_studio.images.blocks import failing_block

        block = failing_block(self.array, key)
        parts = [
            f"{axis} {k.start}:{k.stop}" if isinstance(k, slice) else f"{axis} {k}"
            for axis, k in zip(self.axes.names, block or key, strict=True)
            if k != slice(None)
        ]
        return f" at {'block ' if block else ''}{', '.join(parts)}" if parts else ""


def _runs(channels: Sequence[int] | range) -> list[slice]:
    """Group channel numbers into slices: chunked stores then read only what is asked."""
    runs: list[slice] = []
    for channel in channels:
        if runs and runs[-1].stop == channel:
            runs[-1] = slice(runs[-1].start, channel + 1)
        else:
            runs.append(slice(channel, channel + 1))
    return runs


def may_read_at_once(array: ArrayLike) -> bool:
    """Whether several threads may read an array at once: numpy, Zarr and dask promise it."""
    library = type(array).__module__.partition(".")[0]
    promised = isinstance(array, np.ndarray) or library in ("zarr", "dask")
    return promised or bool(getattr(array, "concurrent", False))


def check_array(array: Any, name: str) -> None:
    """Refuse what no network can segment, by name.

    Raises
    ------
    ImageError
        For complex, object, string or structured dtypes, for unknown lengths
        (dask), and for empty images.
    """
    if not isinstance(array, ArrayLike):
        raise ImageError(
            f"{name!r} is a {type(array).__name__}; pass a numpy, dask or zarr array."
        )
    try:
        dtype = np.dtype(array.dtype)
    except TypeError:  # a tensor of torch or tensorflow: a dtype of its own kind
        raise ImageError(
            f"{name!r} is a {type(array).__module__}.{type(array).__name__} with values of type "
            f"{array.dtype}; pass a numpy, dask or zarr array (for a torch tensor, "
            "tensor.cpu().numpy())."
        ) from None
    if dtype.kind not in "buif":
        raise ImageError(
            f"{name!r} holds values of type {dtype}; only whole and real numbers can be "
            "segmented. Convert it first (for complex data, to its magnitude)."
        )
    if any(n != n for n in array.shape):  # NaN: dask does not know
        raise ImageError(
            f"{name!r} has chunks of unknown size. Call compute_chunk_sizes() on the dask array."
        )
    if 0 in array.shape:
        raise ImageError(
            f"{name!r} is empty (shape {tuple(array.shape)}); there is nothing to segment. Choose "
            "a part that has pixels."
        )


def as_volume(
    image: Any,
    axes: str | None = None,
    *,
    name: str = "image",
    rgb: bool | None = None,
    scale: Sequence[float] = (),
    units: Sequence[str] = (),
) -> Volume:
    """Wrap an array as a volume, asking where its axes are ambiguous.

    Parameters
    ----------
    image : Volume or numpy, dask or zarr array
        A Volume is passed through; ``axes`` then replaces its axis names. Scale and
        units stay with their letters, and a letter that is new has a scale of 1 pixel.
    axes : str, optional
        One letter out of TCZYX per dimension. Needed for three and more
        dimensions, except for 8-bit pictures of shape (Y, X, 3 or 4).
    name : str
        Of an array; for messages and the run record.
    rgb : bool, optional
        Whether the channels are red, green and blue.
    scale : sequence of float
        Of an array: step along each axis, in its unit; empty for 1 each.
    units : sequence of str
        Of an array: one per axis; empty for pixels.

    Raises
    ------
    AmbiguousAxes, AxesError, ImageError
    """
    if isinstance(image, Volume):
        if axes is None:
            return image
        names = resolve_axes(image.array.shape, axes, repr(image.name))
        # Colours stay colours only where their axis stays.
        same_channel = "C" in names and names.find("C") == image.axes.names.find("C")
        return replace(
            image,
            axes=image.axes.with_names(names),
            rgb=image.rgb and same_channel,
        )
    check_array(image, name)
    shape = tuple(image.shape)
    if axes is None and rgb is not False and looks_like_colour(shape, image.dtype):
        axes, rgb = "YXC", True
    elif axes is None and rgb:
        axes = {3: "YXC", 4: None}.get(len(shape))
    names = resolve_axes(shape, axes, repr(name))
    if rgb is None:
        # Four channels whose axes are named may as well be four stains.
        rgb = names.endswith("C") and shape[-1] == 3 and looks_like_colour(shape[-3:], image.dtype)
    return Volume(image, Axes(names, tuple(scale), (), tuple(units)), name, name, rgb)
