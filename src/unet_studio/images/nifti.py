"""Read and write NIfTI. Needs nibabel, the extra ``mri``."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import PIXEL, AmbiguousAxes, Axes, rearrange, resolve_axes
from unet_studio.errors import AxesError, ImageError
from unet_studio.images.atomic import atomic_file
from unet_studio.images.deferred import DeferredArray
from unet_studio.images.label_types import fit_labels
from unet_studio.images.limits import check_memory, check_stored, declared_bytes
from unet_studio.images.units import unit_name
from unet_studio.images.volume import Volume

_ORDER = "XYZTC"
_XYZT_UNITS = {
    "meter": "meter", "mm": "millimeter", "micron": "micrometer",
    "sec": "second", "msec": "millisecond", "usec": "microsecond",
}  # fmt: skip
_TO_XYZT = {name: code for code, name in _XYZT_UNITS.items()}
# Signed 32 bit before unsigned: other medical software often lacks the latter.
_LABEL_TYPES = tuple(map(np.dtype, ("u1", "u2", "i4", "u4", "i8", "u8")))


class NiftiArray:
    """The voxels of an uncompressed NIfTI, read and scaled slice by slice."""

    def __init__(self, voxels: Any, dtype: np.dtype[Any]) -> None:
        self._voxels = voxels
        self.shape = tuple(int(n) for n in voxels.shape)
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._voxels[key]).astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


def _nibabel(path: Path) -> Any:
    try:
        import nibabel
    except ImportError:
        raise ImageError(
            f"{path}: NIfTI files need the package nibabel. Install it with "
            "pip install 'napari-unet-studio[mri]'."
        ) from None
    return nibabel


def read(path: Path, axes: str | None, series: int, level: int) -> Volume:
    """Open a NIfTI lazily; see :func:`unet_studio.images.readers.read_image`.

    The order is nibabel's, X Y Z [T]. Scale and units are the voxel sizes; the
    affine, which may also turn and flip, is in ``metadata["affine"]``.
    """
    nibabel = _nibabel(path)
    if series or level:
        raise ImageError(
            f"{path} holds one image; there is no series {series}, level {level}. Leave both at 0."
        )
    image = nibabel.load(path)
    header, voxels = image.header, image.dataobj
    if not isinstance(image, nibabel.Nifti1Pair):
        raise ImageError(f"{path} is not NIfTI but {type(image).__name__}. Convert it to NIfTI.")
    stored = np.dtype(header.get_data_dtype())
    packed = path.name.lower().endswith(".gz")
    shape = tuple(int(n) for n in voxels.shape)
    bytes_declared = declared_bytes(shape, stored)
    there = path.stat().st_size - (0 if packed else int(voxels.offset))
    check_stored(path, bytes_declared, there, compressed=packed)
    dtype = _scaled_type(stored, voxels)
    array: Any = NiftiArray(voxels, dtype)
    if packed:  # gzip can only be read from its start: unpack once, not for every tile
        check_memory(path, declared_bytes(shape, dtype), "The unpacked image")
        array = DeferredArray(shape, dtype, lambda: np.asarray(voxels).astype(dtype))
    names = _names(path, shape, header, axes)
    return Volume(
        array,
        _axes(names, header),
        metadata={"family": "nifti", "affine": np.array(image.affine), "header": header.copy()},
    )


def _scaled_type(stored: np.dtype[Any], voxels: Any) -> np.dtype[Any]:
    if stored.kind not in "iuf" or (voxels.slope in (None, 1) and voxels.inter in (None, 0)):
        return stored.newbyteorder("=")
    return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)


def _names(path: Path, shape: tuple[int, ...], header: Any, given: str | None) -> str:
    if given is not None:
        return resolve_axes(shape, given, str(path))
    if len(shape) not in (2, 3, 4, 5):
        raise AxesError(
            f"{path} has {len(shape)} dimensions (shape {shape}); 2 to 5 can be read. Save a part "
            "of it."
        )
    if len(shape) == 4 and header.get_xyzt_units()[1] not in ("sec", "msec", "usec"):
        # Without a unit of time the fourth dimension is as often MRI sequences.
        raise AmbiguousAxes(
            f"{path} of shape {shape} does not say whether its fourth dimension is time or "
            "channels (such as MRI sequences).",
            ("XYZT", "XYZC"),
        )
    return _ORDER[: len(shape)]


def _axes(names: str, header: Any) -> Axes:
    space, time = header.get_xyzt_units()
    space, time = (unit_name(_XYZT_UNITS.get(u, PIXEL)) for u in (space, time))
    # By letter: a dimension that the user names otherwise has no known step.
    sizes = {a: float(z) for a, z in zip(_ORDER, header.get_zooms(), strict=False) if a != "C"}
    good = {a: s for a, s in sizes.items() if np.isfinite(s) and s > 0}
    return Axes(
        names,
        tuple(good.get(a, 1.0) for a in names),
        (),
        tuple({"T": time}.get(a, space) if a in sizes else PIXEL for a in names),
    )


def write(
    array: NDArray[Any], axes: Axes, target: Path, *, metadata: Mapping[str, Any], labels: bool
) -> Path:
    """Write a NIfTI with the affine and header of the input, if that was one too.

    The order on disk is always X Y Z T C; missing axes before the last are added.
    """
    nibabel = _nibabel(target)
    voxels = _storable(array, labels)
    order = "".join(a for a in _ORDER if a in axes)
    voxels = rearrange(voxels, axes.names, order)
    wanted = _ORDER[: 1 + max(_ORDER.index(a) for a in order)]
    voxels = voxels.reshape([voxels.shape[order.index(a)] if a in order else 1 for a in wanted])
    image = _image(nibabel, voxels, axes, metadata)
    packed = target.name.lower().endswith(".gz")
    with atomic_file(target) as stream:
        if packed:
            # No name and no time inside: the same labels give the same bytes.
            with gzip.GzipFile("", "wb", 6, stream, mtime=0) as squeezed:
                image.to_stream(squeezed)
        else:
            image.to_stream(stream)
    return target


def _storable(array: NDArray[Any], labels: bool) -> NDArray[Any]:
    if labels:
        return fit_labels(array, _LABEL_TYPES)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)  # NIfTI has no half precision
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _image(nibabel: Any, voxels: NDArray[Any], axes: Axes, metadata: Mapping[str, Any]) -> Any:
    header = metadata["header"].copy() if "header" in metadata else None
    scale = {a: float(axes.scale[axes.index(a)]) if a in axes else 1.0 for a in _ORDER}
    affine = metadata.get("affine", np.diag([scale["X"], scale["Y"], scale["Z"], 1.0]))
    large = max(voxels.shape) > np.iinfo(np.int16).max or isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if large else nibabel.Nifti1Image
    image = kind(voxels, affine, header, dtype=voxels.dtype)
    if header is None:
        units = {a: axes.units[axes.index(a)] for a in "XT" if a in axes}
        image.header.set_xyzt_units(
            _TO_XYZT.get(units.get("X", ""), 0), _TO_XYZT.get(units.get("T", ""), 0)
        )
        image.header.set_zooms([scale[a] for a in _ORDER[: voxels.ndim]])
    else:
        # Intensity scaling, display range and private notes of the scan do not apply to labels.
        image.header.extensions.clear()
        image.header["cal_max"] = image.header["cal_min"] = 0
    image.header.set_slope_inter(1, 0)
    return image
