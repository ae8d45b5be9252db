"""How much memory a run will need, before it starts.

Constants are measured: `benchmarks/forecast.py` compares the forecast with the
growth of real processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unet_studio.images.gathered_chunks import MOST_GATHERED_BYTES
from unet_studio.images.limits import readable_size
from unet_studio.images.volume import VolumeInfo
from unet_studio.inference.planes import PlaneView, slab_bytes
from unet_studio.inference.precision import BYTES
from unet_studio.inference.tiling import TilePlan
from unet_studio.inference.trials import Numerics
from unet_studio.inference.writing import SCRATCH_CHUNK
from unet_studio.models.card import ModelCard
from unet_studio.models.networks import EMBEDDED

# Probabilities are kept as float16; the objects step works on one frame, or a block of a
# larger one, with about this many bytes per pixel (measured on the watershed).
PROBABILITY_BYTES = 2
OBJECTS_BYTES_PER_PIXEL = 28
# OpenVINO keeps fewer activations than torch does, but compiles the network first; torch's
# convolutions of planes join what they are given on a CPU (models/fusing.py), and those of
# volumes need room beside them. Of smaller tensors the C library keeps some that are freed.
_OPENVINO_ACTIVATIONS = 0.7
_OPENVINO_BYTES, _OPENVINO_BYTES_INT8 = 130 * 10**6, 45 * 10**6
_TORCH_PLANES, _TORCH_VOLUMES = 0.78, 1.3
_FREED_BYTES = 100 * 10**6
_LABEL_BYTES = 4
# Chunks of a lazy image that tiles share: two rows of tiles of a wide one, where a GPU would
# wait for them to be unpacked again.
KEPT_BYTES, KEPT_BYTES_ON_GPU = 64 * 2**20, 256 * 2**20
# Larger frames are cut into blocks for the objects step, in memory (objects/frames.py, to which
# a test compares this) and through the disk.
OBJECTS_BLOCK_PIXELS = 2048 * 2048


@dataclass(frozen=True)
class Forecast:
    """Expected peaks of memory, in bytes above what the process uses already.

    Attributes
    ----------
    held : int
        Of the computer's memory, with the results held there.
    streamed : int
        The same with the results going through the disk.
    device : int
        Of the GPU's memory; 0 on a CPU.
    """

    held: int
    streamed: int
    device: int


def forecast(
    card: ModelCard,
    info: VolumeInfo,
    tiles: TilePlan,
    batch: int,
    device: str,
    numerics: Numerics,
    *,
    flips: bool,
    views: Sequence[PlaneView] = (),
    whole_frames: bool = False,
) -> Forecast:
    """Forecast the peaks of a run.

    Parameters
    ----------
    card : ModelCard
    info : VolumeInfo
    tiles : TilePlan
    batch : int
        Tiles per forward pass.
    device : str
    numerics : Numerics
        Back end and precision that will probably be chosen.
    flips : bool
        Whether mirror images are averaged.
    views : sequence of PlaneView
        Planes along Z that are predicted, too.
    whole_frames : bool
        Whether the objects of a frame are made of all of it at once, however large it is.
    """
    voxels = math.prod(info.length(a) for a in "TZYX")
    frame = voxels // info.length("T")
    # Tiles of other planes are held beside a slab of these.
    tile = max(math.prod(t.tile_shape) for t in (tiles, *(v.tiles for v in views))) * batch
    network = 4 * card.parameters
    kept = voxels * card.out_channels * PROBABILITY_BYTES
    summed = 0
    if tiles.averages:  # float32 sums of a slab, its mean, those being written
        across = math.prod(tiles.shape) // tiles.shape[tiles.slab_axis]
        slab = across * tiles.tile_shape[tiles.slab_axis]
        summed = slab * (3 * card.out_channels + 1) * 4
    summed += max((slab_bytes(view, card) for view in views), default=0)
    block = min(frame, OBJECTS_BLOCK_PIXELS) * OBJECTS_BYTES_PER_PIXEL
    at_once = frame * OBJECTS_BYTES_PER_PIXEL if whole_frames else block
    labelling = at_once + voxels * _LABEL_BYTES
    width = BYTES[numerics.precision]
    activations = int(card.bytes_per_pixel * tile * width / 4)
    if numerics.backend == "openvino":
        compiled = _OPENVINO_BYTES_INT8 if numerics.precision == "int8" else _OPENVINO_BYTES
        activations = int(activations * _OPENVINO_ACTIVATIONS) + compiled
    elif device == "cpu" and card.architecture not in EMBEDDED:
        activations = int(activations * (_TORCH_PLANES if card.ndim == 2 else _TORCH_VOLUMES))
        if card.ndim == 2:
            activations += min(_FREED_BYTES, activations // 3)
    if flips:  # the sum, and what is turned back to be added to it
        activations += tile * 2 * 4 * card.out_channels
    on_device = 0
    raw, read = info.dtype.itemsize, _channels_read(card, info)
    if device.startswith("cuda"):
        # Tiles as they are stored, read ahead and page-locked; results on their way out.
        copies = tile * (10 * raw * read + 10 * 2 * card.out_channels)
        # Of the tile that waits for its turn, or goes back.
        beside = tile * ((raw + 4) * read + width * card.in_channels + 2 * card.out_channels)
        on_device, activations = network + activations + beside, 0
    else:
        # The tile at work as stored, as a batch, the next one; scaled, and as the network takes
        # it; and what comes back of the network or waits to be written.
        copies = tile * ((3 * raw + 4) * read + 4 * card.in_channels)
        copies += tile * (2 * 4 + 4 * 2) * card.out_channels
    at_work = activations + copies
    if info.chunked:
        most = KEPT_BYTES_ON_GPU if device.startswith("cuda") else KEPT_BYTES
        at_work += min(most, math.prod(info.shape) * raw)
    # The network's activations are gone when objects are made.
    held = network + kept + summed + max(at_work, labelling)
    streamed = network + summed + max(at_work + _gathered(card, info, tiles), block)
    return Forecast(held, streamed, on_device)


def _gathered(card: ModelCard, info: VolumeInfo, tiles: TilePlan) -> int:
    """Return the bytes of chunks that wait for the next row of tiles to fill them."""
    high = SCRATCH_CHUNK[card.ndim][-2] * math.prod(tiles.tile_shape[:-2])
    waiting = high * info.length("X") * card.out_channels * PROBABILITY_BYTES
    return min(MOST_GATHERED_BYTES, waiting)


def _channels_read(card: ModelCard, info: VolumeInfo) -> int:
    """Return how many channels a tile has as it is read; colours may be mixed into one."""
    return min(info.channels, max(card.in_channels, 3 if info.rgb else 1))


def shortage(where: str, needed: int, free: int | None, *, by_disk: bool) -> list[str]:
    """Return a warning if more is needed than is free, and what may help, in words."""
    if free is None or needed <= free:
        return []
    instead = "choose smaller tiles"
    if by_disk:
        instead = "go through the disk (--through-disk, or the box in the window)"
    return [
        f"This needs about {readable_size(needed)} {where}, but {readable_size(free)} are free. "
        f"Close other programs, segment a part of the image, or {instead}."
    ]
