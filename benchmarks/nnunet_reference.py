"""Compare models of nnU-Net v2 run here with nnU-Net's own predictor.

    python benchmarks/nnunet_reference.py --nnunet /path/to/its/venv/bin/python

trains small models with nnU-Net itself (under the Python given, which has ``nnunetv2``;
about ten minutes on two CPU cores), lets its own predictor segment images that were
not trained on, imports the folders here and segments the same images. A folder where
this was done before is used as it is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio import load_model, predict, read_image
from unet_studio.models.model import Model

RESULTS = Path(__file__).parent / "results" / "nnunet_reference.md"
SIDE = Path(__file__).with_name("nnunet_side.py")
DATASET, TRAINER = "Dataset004_Hippocampus", "nnUNetTrainer_20epochs"
RUNS = (("2d", "0"), ("3d_fullres", "0"), ("3d_fullres", "0,1"))
CLASSES = (1, 2)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks."""
    return 2 * float((first & second).sum()) / max(1, int(first.sum()) + int(second.sum()))


def side(python: Path, *arguments: object) -> None:
    """Run a part under nnU-Net's own Python."""
    # Not ours: what is imported there must be what its environment holds.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([python, SIDE, *map(str, arguments)], check=True, env=environment)


def compare(model: Model, found: Path, data: Path) -> dict[str, Any]:
    """Segment every image that nnU-Net segmented; return Dice and differences."""
    ours, theirs, truths, apart, inner = [], [], [], 0.0, 0.0
    cases = sorted(found.glob("*.nii.gz"))
    for case in cases:
        result = predict(data / "val" / "images" / case.name, model, precision="float32")
        probabilities = np.asarray(result.probabilities, np.float32)
        reference = np.load(case.with_name(case.name.replace(".nii.gz", ".npz")))["probabilities"]
        difference = np.abs(probabilities - reference)
        apart = max(apart, float(difference.max()))
        inner = max(inner, float(difference[:, 3:-3, 3:-3, 3:-3].max()))
        ours.append(probabilities.argmax(0).ravel())
        theirs.append(read_image(case).read()[0].ravel())
        truths.append(read_image(data / "val" / "masks" / case.name).read()[0].ravel())
    mine, other, truth = (np.concatenate(parts) for parts in (ours, theirs, truths))
    return {
        "cases": len(cases),
        "voxels": mine.size,
        "between": [dice(mine == c, other == c) for c in CLASSES],
        "differing": int((mine != other).sum()),
        "apart": apart,
        "inner": inner,
        "ours": [dice(mine == c, truth == c) for c in CLASSES],
        "theirs": [dice(other == c, truth == c) for c in CLASSES],
    }


def row(name: str, scores: dict[str, Any]) -> str:
    """Return one line of the table."""

    def pair(values: list[float], digits: int) -> str:
        return " / ".join(f"{v:.{digits}f}" for v in values)

    return (
        f"| {name} | {scores['cases']} | {pair(scores['between'], 5)} "
        f"| {scores['differing']:,} of {scores['voxels']:,} | {scores['apart']:.4f} "
        f"| {scores['inner']:.4f} | {pair(scores['ours'], 3)} | {pair(scores['theirs'], 3)} |"
    )


def main() -> None:
    """Print the table and write it to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nnunet", type=Path, required=True, help="python that has nnunetv2")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/msd_hippocampus_3d"))
    parser.add_argument("--folder", type=Path, default=Path("nnunet-reference"))
    parser.add_argument("--cases", type=int, default=8, help="images of the val split")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    folder, data = args.folder.resolve(), args.data.resolve()
    results = folder / "results" / DATASET
    if not results.is_dir():
        masks = data / "train" / "masks"
        side(args.nnunet, "train", folder, data / "train" / "images", masks, "2d", "3d_fullres")
    version = "import importlib.metadata as m; print(m.version('nnunetv2'))"
    told = subprocess.run([args.nnunet, "-c", version], check=True, capture_output=True, text=True)
    lines = [
        f"# Models of nnU-Net v2: here, and by nnU-Net {told.stdout.strip()} itself",
        "",
        "Small networks that nnU-Net trained on the hippocampus of the Medical Segmentation",
        "Decathlon for 20 short epochs, with a voxel size unlike the images' and turned axes.",
        "Images of the val split; pooled over all voxels; anterior / posterior. Mirrored in all",
        "directions and float32 on both sides (nnU-Net adds up logits in float16).",
        "",
        "| configuration, folds | images | **Dice between both** | voxels that differ "
        "| largest difference of a probability | 3 voxels from the border on "
        "| Dice here | Dice by nnU-Net |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for configuration, folds in RUNS:
        found = folder / "predicted" / "-".join((configuration, *folds.split(",")))
        if not (found / "done").exists():
            images, count = data / "val" / "images", args.cases
            side(args.nnunet, "predict", folder, images, configuration, folds, count)
        source = results / f"{TRAINER}__nnUNetPlans__{configuration}"
        scores = compare(load_model(f"nnunet:{source}?fold={folds}"), found, data)
        lines.append(row(f"{configuration}, {folds}", scores))
        print(lines[-1], flush=True)
    lines += [
        "",
        "What stands in for a second fold is the first one's network with noise on its weights.",
        "At the images' edges, where all patches count little, nnU-Net's float16 rounds the",
        "Gaussian weights to few steps, and the probabilities differ most.",
        "",
        "Command: `python benchmarks/nnunet_reference.py --nnunet PYTHON`",
        "",
    ]
    args.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
