"""Small real images that come with the package, freely licensed (see README.md here)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One shipped image.

    Attributes
    ----------
    name : str
        Key in :data:`SAMPLES`, as typed on the command line.
    title : str
        What to call it in menus.
    file : str
        File name in this folder.
    axes : str
        Axes of the array, one letter per dimension.
    scale : tuple of float
        Size of a pixel along the axes other than C, in ``unit``.
    unit : str
    licence, source : str
    """

    name: str
    title: str
    file: str
    axes: str
    scale: tuple[float, ...]
    unit: str
    licence: str
    source: str

    @property
    def rgb(self) -> bool:
        """Whether the last axis holds red, green and blue."""
        return self.axes.endswith("C")

    @property
    def path(self) -> Path:
        """The file."""
        return _FOLDER / self.file


_BOWL = "2018 Data Science Bowl (BBBC038), corrected edition"
SAMPLES: dict[str, Sample] = {
    sample.name: sample
    for sample in (
        Sample(
            "nuclei_fluorescence", "Nuclei, fluorescence (2D)", "nuclei_fluorescence.png",
            "YX", (1.0, 1.0), "pixel", "CC0", _BOWL,
        ),
        Sample(
            "nuclei_clusters", "Nuclei, dim and touching (2D)", "nuclei_clusters.png",
            "YX", (1.0, 1.0), "pixel", "CC0", _BOWL,
        ),
        Sample(
            "tissue_histology", "Tissue, stained (2D, RGB)", "tissue_histology.png",
            "YXC", (1.0, 1.0), "pixel", "CC0", _BOWL,
        ),
        Sample(
            "cells_brightfield", "Cells, bright field (2D)", "cells_brightfield.png",
            "YX", (1.0, 1.0), "pixel", "CC0", _BOWL,
        ),
        Sample(
            "membranes_em", "Nerve cord, electron micrograph (2D)", "membranes_em.png",
            "YX", (0.0046, 0.0046), "micrometer", "CC BY 4.0", "Gerhard et al. 2013, figshare",
        ),
        Sample(
            "nuclei_stack", "Nuclei, confocal stack (3D)", "nuclei_stack.tif",
            "ZYX", (0.2837, 0.1268, 0.1268), "micrometer", "MIT",
            "PlantSeg test data (BioStudies S-BIAD1026)",
        ),
    )
}  # fmt: skip


def find_sample(name: str) -> Sample:
    """Return a sample by name.

    Raises
    ------
    ImageError
        If there is none; the message lists the names known.
    """
    try:
        return SAMPLES[name]
    except KeyError:
        known = ", ".join(SAMPLES)
        raise ImageError(f"There is no sample called {name!r}. Known: {known}.") from None


def sample_path(name: str) -> Path:
    """Return the file of a sample.

    Raises
    ------
    ImageError
        If there is no such sample.
    """
    return find_sample(name).path


def read_sample(name: str) -> NDArray[Any]:
    """Read a sample into memory.

    Returns
    -------
    array of uint8
        Axes as in :attr:`Sample.axes`.

    Raises
    ------
    ImageError
        If there is no such sample, or its file is gone.
    """
    import numpy as np

    sample = find_sample(name)
    try:
        if sample.path.suffix == ".tif":
            import tifffile

            return np.asarray(tifffile.imread(sample.path))
        from PIL import Image

        with Image.open(sample.path) as picture:
            return np.array(picture)
    except OSError as error:
        raise ImageError(
            f"The sample {name!r} can not be read from {sample.path}: {error}. "
            "Install the package again."
        ) from error
