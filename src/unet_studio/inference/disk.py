"""Room on the disk for intermediate results."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from unet_studio.images.limits import readable_size
from unet_studio.inference.forecast import PROBABILITY_BYTES

if TYPE_CHECKING:
    from unet_studio.inference.plan import RunPlan


def shortage_of_disk(plan: RunPlan, folder: Path, *, classes: bool) -> str | None:
    """Return a warning if intermediate results might not fit on the disk of a folder.

    Parameters
    ----------
    plan : RunPlan
    folder : Path
    classes : bool
        Whether tiles are decided at once: one byte per voxel and no probabilities.
    """
    voxels = math.prod(plan.output_shape)
    needed = voxels * (1 if classes else plan.card.out_channels * PROBABILITY_BYTES + 4)
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"The disk of {folder.parent} has {readable_size(free)} free. Intermediate results of "
        f"{plan.info.name!r} take up to {readable_size(needed)}, though mostly far less, as they "
        "are compressed."
    )
