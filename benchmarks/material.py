"""What the speed benchmarks run on: networks with trained weights, and real images of any size.

A network of random weights decides nearly nothing by a margin, so counting
changed decisions with it means nothing. The ResNet U-Nets are therefore
trained, briefly, on real nuclei, and kept in a work folder outside the
repository, and so are plain U-Nets by the names of their presets.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries
from torch.nn import functional

from unet_studio import Model, load_model
from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics
from unet_studio.models.model import save_model
from unet_studio.models.probe import probe_network

SET = "dsb2018_fluo"
_EDGE = 256  # most images of that set are of this size
_ACROSS = 5  # images along each side of the mosaic
MOSAIC_EDGE = _EDGE * _ACROSS
_CROP = 192
_BATCH = 4
_RATE = 1e-3
# Nuclei touch: with edges as a class of their own there is more to decide than bright or dark.
_PRESET = "random:{name}?representation=classes&classes=background,nucleus,edge"


def network(name: str, data: Path, work: Path, steps: int) -> str:
    """Return the name or path under which a model of the benchmark can be loaded.

    Parameters
    ----------
    name : str
        Of a model in the store, path of a model file, or of a preset such as "resnet18" or
        "unet-tiny", which is trained if the work folder does not hold it yet.
    data : Path
        Folder that holds the set :data:`SET`.
    work : Path
    steps : int
        Of the training.

    Raises
    ------
    FileNotFoundError
        If the images are not there.
    UNetStudioError
        If there is no such preset, or the file can not be written.
    """
    if not name.startswith(("resnet", "unet-")) or Path(name).exists():
        return name
    path = work / f"{name}-{steps}.safetensors"
    if not path.exists():
        began = time.perf_counter()
        save_model(_trained(name, data, steps), path)
        print(f"{name}: {steps} steps in {time.perf_counter() - began:.0f} s", flush=True)
    return str(path)


def mosaic(data: Path, size: int) -> NDArray[np.uint8]:
    """Return one large image out of real ones that no network here was trained on.

    25 ``val`` images of 256 × 256 pixels, each stretched to its own full range and flipped
    by chance, make a square of 1,280, which is continued by reflection up to the size.

    Parameters
    ----------
    data : Path
        Folder that holds the set :data:`SET`.
    size : int
        Edge, in pixels.

    Returns
    -------
    array of uint8, axes (Y, X)

    Raises
    ------
    FileNotFoundError
        If there are too few images in the folder.
    """
    folder = data / SET / "val" / "images"
    images = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    images = [image for image in images if image.shape == (_EDGE, _EDGE)][: _ACROSS**2]
    if len(images) < _ACROSS**2:
        raise FileNotFoundError(
            f"{folder} holds {len(images)} images of {_EDGE} × {_EDGE} pixels; {_ACROSS**2} are "
            "needed. Give the folder of the test data with --data."
        )
    rng = np.random.default_rng(0)
    tiles = []
    for image in images:
        low, high = np.percentile(image, (0.1, 99.9))
        stretched = (np.clip((image - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)
        tiles.append(stretched[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))])
    rows = [np.hstack(tiles[i : i + _ACROSS]) for i in range(0, len(tiles), _ACROSS)]
    square = np.vstack(rows)
    missing = max(0, size - len(square))
    return np.pad(square, (0, missing), mode="symmetric")[:size, :size]


def _trained(name: str, data: Path, steps: int) -> Model:
    """Train an untrained preset on random crops, by cross entropy."""
    model = load_model(_PRESET.format(name=name))
    net = model.network.requires_grad_(True).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), _RATE)
    pairs = _training_pairs(data)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        crops = [_crop(*pairs[rng.integers(len(pairs))], rng) for _ in range(_BATCH)]
        images = torch.from_numpy(np.stack([image for image, _ in crops]))[:, None]
        classes = torch.from_numpy(np.stack([target for _, target in crops]))
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits.float(), classes)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    net = net.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    fields = {
        **probe_network(net, model.card).card_fields(),
        "name": name,
        "description": f"For benchmarks only: {steps} steps on nuclei.",
    }
    return Model(model.card.model_copy(update=fields), net)


def _training_pairs(data: Path) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return normalised images (Y, X) and their classes: 0, 1 inside, 2 edge."""
    folder = data / SET / "train"
    paths = sorted((folder / "images").glob("*.png"))
    if not paths:
        raise FileNotFoundError(
            f"{folder / 'images'} holds no images to train on. Give the folder of the test data "
            "with --data, or model files with --models."
        )
    pairs = []
    for path in paths:
        image = np.asarray(Image.open(path))[None]
        labels = np.asarray(Image.open(folder / "masks" / path.name))
        classes = (labels > 0).astype(np.int64)
        classes[find_boundaries(labels, mode="inner")] = 2
        scaled = percentile_scaling(sample_for_statistics(image)).apply(image)[0]
        pairs.append((scaled, classes))
    return pairs


def _crop(
    image: NDArray[np.float32], classes: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cut a square at random and flip it by chance."""
    y, x = (int(rng.integers(n - _CROP + 1)) for n in image.shape)
    flips = (slice(None, None, int(rng.choice((-1, 1)))), slice(None, None, rng.choice((-1, 1))))
    window = (slice(y, y + _CROP), slice(x, x + _CROP))
    return image[window][flips].copy(), classes[window][flips].copy()
