"""Train the bundled model of membranes and mitochondria in electron micrographs.

    python training/train_membranes.py --data ../shared/data

writes ``src/unet_studio/models/bundled/em-membranes.safetensors``. Images are those of
Gerhard et al. 2013 (Drosophila larva, serial-section TEM, 4.6 nm per pixel, CC BY 4.0);
only the ``train`` folder is read. Meant for a GPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from batched import Draws, change_appearance, coordinates, read_crops, stack_images
from loop import Budget, fit, halved, history, parser, run, start_from, write_trained
from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics
from unet_studio.models.card import ModelCard
from unet_studio.models.networks.unet import SLIM_WIDTHS, UNet
from unet_studio.recipe import Normalisation
from unet_studio.training.augmentation import Augmentation
from unet_studio.training.losses import classes_loss

SET = "vnc_sstem_multiclass"
CLASSES = ("background", "membrane", "mitochondrion")
# Of the set's classes: 0 inside of cells, 1 membrane, 2 mitochondrion, 3 synapse, 4 glia and
# extracellular space. Synapses are too few to learn.
FROM_SET = torch.tensor([0, 1, 2, 0, 0])
# Mitochondria are 5 % of the pixels.
CLASS_WEIGHTS = torch.tensor([1.0, 1.5, 3.0])
NORMALISATION = {"low": 1.0, "high": 99.0}
NANOMETRES = 4.6
CROP = 192
BATCH = 32
PEAK_RATE = 2e-3
CHECKPOINT = "membranes_checkpoint.pt"
# Shown at 4.6 to about 12 nm per pixel, and at any contrast that microscopes give.
AUGMENTATION = Augmentation(
    zoom=(0.38, 1.1),
    stretch=0.15,
    elastic=1.5,
    appearance=0.3,
    contrast=1.6,
    invert=0.0,
    recolour=0.0,
    blur=1.5,
    coarser=2.0,
    noise=0.12,
)
OUTPUT = Path(__file__).parent.parent / "src/unet_studio/models/bundled/em-membranes.safetensors"


def read_pair(image_path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one section, normalised to (1, Y, X) float32, and its classes (Y, X)."""
    pixels = np.asarray(Image.open(image_path))[None]
    scaling = percentile_scaling(sample_for_statistics(pixels), **NORMALISATION)
    mask = np.asarray(Image.open(image_path.parent.parent / "masks" / image_path.name))
    return torch.from_numpy(scaling.apply(pixels)), FROM_SET[torch.from_numpy(mask.astype(int))]


class Crops:
    """Augmented training batches, drawn on the device."""

    def __init__(self, data: Path, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        pairs = [read_pair(p) for p in sorted((data / SET / "train" / "images").glob("*"))]
        self.stack = stack_images(
            [image for image, _ in pairs],
            [classes[None].float() for _, classes in pairs],
            [torch.zeros(0, *classes.shape) for _, classes in pairs],
            device,
            levels=3,
        )
        rows = [
            functional.pad(torch.nonzero(classes == 2).float(), (1, 0), value=index)
            for index, (_, classes) in enumerate(pairs)
        ]
        self.mitochondria = torch.cat(rows).to(device)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw crops (N, 1, Y, X) and classes (N, Y, X); half of them near a mitochondrion."""
        draws = Draws(BATCH, self.generator)
        rows = self.mitochondria[(draws.uniform(0, 1) * len(self.mitochondria)).long()]
        indices = rows[:, 0].long()
        near = rows[:, 1:] + draws.uniform(-0.5, 0.5, 2) * CROP
        anywhere = draws.uniform(0, 1, 2) * self.stack.sizes[indices]
        centres = torch.where(draws.chance(0.5).unsqueeze(1), near, anywhere)
        zoom = draws.log_uniform(*AUGMENTATION.zoom)
        positions = coordinates(centres, zoom, CROP, AUGMENTATION, draws)
        images, classes, _ = read_crops(self.stack, indices, positions, zoom)
        images = change_appearance(images, AUGMENTATION, draws).clamp(-0.5, 2.0)
        return images, classes[:, 0].long()


def train(args: argparse.Namespace) -> tuple[dict[str, torch.Tensor], int]:
    """Run the training; return the averaged weights and the number of steps."""
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    net = UNet(1, len(CLASSES), SLIM_WIDTHS).to(device, memory_format=torch.channels_last)
    factor = start_from(net, args)
    crops = Crops(args.data, args.seed, device)
    weights = CLASS_WEIGHTS.to(device)

    def loss_of(net: torch.nn.Module, _progress: float) -> torch.Tensor:
        images, classes = crops.batch()
        # bfloat16 is emulated, and slow, on most CPUs.
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = net(images.contiguous(memory_format=torch.channels_last))
        return classes_loss(logits, classes, weights)

    budget = Budget(args.steps, args.seconds, PEAK_RATE * factor)
    return fit(net, loss_of, budget, args.work / CHECKPOINT)


def write_model(weights: dict[str, torch.Tensor], steps: int, args: argparse.Namespace) -> None:
    """Write the model file that is shipped: weights, card and training record."""
    network = UNet(1, len(CLASSES), SLIM_WIDTHS)
    network.load_state_dict(weights)
    halved(network)
    pixel = NANOMETRES / 1000
    card = ModelCard(
        name="em-membranes",
        architecture="unet",
        options={"widths": list(SLIM_WIDTHS)},
        in_channels=1,
        representation="classes",
        classes=CLASSES,
        normalisation=Normalisation(method="percentile", options=NORMALISATION),
        patch=CROP,
        voxel_size=(pixel, pixel),
        description=(
            "Cell membranes and mitochondria in transmission electron micrographs of nervous "
            "tissue, dark on bright, at about 4 to 12 nm per pixel."
        ),
        licence="CC-BY-4.0",
        authors="The U-Net Studio developers",
        training_data=(
            "Segmented anisotropic ssTEM dataset of neural tissue, Drosophila larva ventral nerve "
            "cord, Gerhard et al. 2013, CC BY 4.0"
        ),
        citation="Gerhard et al. 2013, doi:10.6084/m9.figshare.856713",
        training={
            **history("train_membranes.py", args, steps, BATCH, CROP, PEAK_RATE),
            "images": {SET: 10},
            "augmentation": asdict(AUGMENTATION),
        },
    )
    write_trained(card, network, args.output)


if __name__ == "__main__":
    run(parser(__doc__, OUTPUT, 12_000).parse_args(), CHECKPOINT, train, write_model)
