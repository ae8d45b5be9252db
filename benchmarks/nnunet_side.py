"""The part of ``nnunet_reference.py`` that runs under nnU-Net's own Python.

    python nnunet_side.py train FOLDER IMAGES MASKS CONFIGURATION...
    python nnunet_side.py predict FOLDER IMAGES CONFIGURATION FOLD,... COUNT
    python nnunet_side.py fixture FOLDER TARGET

Everything is written into FOLDER. Plans are nnU-Net's own but for three things: small
networks and patches, so that a CPU can train them; a voxel size unlike that of the
images, so that they are resampled; and turned axes. What stands in for a second fold is
the first one's network with noise on its weights.

``fixture`` makes the files in ``tests/unit/models/nnunet/data``: models of a few thousand
weights, trained for a minute on made-up stacks of thick slices, and what nnU-Net finds
with them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATASET = "Dataset004_Hippocampus"
TRAINER = "nnUNetTrainer_20epochs"
FINAL = "checkpoint_final.pth"
ITERATIONS = int(os.environ.get("NNUNET_ITERATIONS", "50"))  # per epoch, of which there are 20
FEATURES = [8, 16, 32]
CHANGES: dict[str, dict[str, Any]] = {
    "3d_fullres": {"patch_size": [24, 24, 32], "spacing": [1.2, 1.0, 0.9], "batch_size": 2},
    "2d": {"patch_size": [32, 32], "spacing": [1.0, 0.9], "batch_size": 12},
}


# Of the fixture: slices that stay apart when resampled, and a residual network.
TINY: dict[str, dict[str, Any]] = {
    "3d_fullres": {"patch_size": [16, 8, 16], "spacing": [0.9, 3.0, 1.1], "batch_size": 2},
    "2d": {"patch_size": [16, 24], "spacing": [3.0, 1.1], "batch_size": 8},
}
# Three levels: with two, nnU-Net's weights of deep supervision are 0 / 0.
TINY_NETWORKS: dict[str, dict[str, Any]] = {
    "3d_fullres": {
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[3, 1, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 1, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 1],
    },
    "2d": {
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[3, 3], [3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2], [1, 2]],
        "n_blocks_per_stage": [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 1],
    },
}
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"


def main(what: str, folder: Path, *rest: str) -> None:
    """Set nnU-Net's folders, then train, predict, or both for the fixture."""
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    os.environ.update(nnUNet_n_proc_DA="1", nnUNet_def_n_proc="1", nnUNet_compile="f")
    if what == "train":
        make_dataset(folder, Path(rest[0]), Path(rest[1]))
        plan(small)
        prepare(*rest[2:])
        for configuration in rest[2:]:
            train(folder, configuration)
    elif what == "predict":
        images = [[str(case)] for case in sorted(Path(rest[0]).glob("*.nii.gz"))]
        predict(folder, images[: int(rest[3])], rest[1], tuple(rest[2].split(",")))
    else:
        make_fixture(folder, Path(rest[0]))


def make_dataset(folder: Path, images: Path, masks: Path) -> None:
    """Copy the cases under the names that nnU-Net wants."""
    dataset = folder / "raw" / DATASET
    for name in ("imagesTr", "labelsTr"):
        (dataset / name).mkdir(parents=True, exist_ok=True)
    cases = sorted(images.glob("*.nii.gz"))
    for case in cases:
        stem = case.name.removesuffix(".nii.gz")
        shutil.copy(case, dataset / "imagesTr" / f"{stem}_0000.nii.gz")
        shutil.copy(masks / case.name, dataset / "labelsTr" / case.name)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))


def plan(change: Callable[[dict[str, Any]], None]) -> None:
    """Let nnU-Net plan, and change the configurations."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
    )

    extract_fingerprints([4], num_processes=1, verbose=False)
    plan_experiments([4])
    path = Path(os.environ["nnUNet_preprocessed"]) / DATASET / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["transpose_forward"], plans["transpose_backward"] = [2, 0, 1], [1, 2, 0]
    change(plans["configurations"])
    path.write_text(json.dumps(plans))


def prepare(*configurations: str) -> None:
    """Let nnU-Net preprocess by its plans."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess

    one = [1] * len(configurations)
    preprocess([4], configurations=list(configurations), num_processes=one, verbose=False)


def small(configurations: dict[str, Any]) -> None:
    """Make plans small enough for a CPU."""
    for name, changes in CHANGES.items():
        configuration = configurations[name]
        configuration.update(changes)
        ndim = len(changes["patch_size"])
        configuration["architecture"]["arch_kwargs"].update(
            n_stages=len(FEATURES),
            features_per_stage=FEATURES,
            kernel_sizes=[[3] * ndim for _ in FEATURES],
            strides=[[1] * ndim, *([2] * ndim for _ in FEATURES[1:])],
            n_conv_per_stage=[2] * len(FEATURES),
            n_conv_per_stage_decoder=[2] * (len(FEATURES) - 1),
        )


def tiny(configurations: dict[str, Any]) -> None:
    """Make plans small enough for a repository."""
    for name, changes in TINY.items():
        configurations[name].update(changes)
        architecture = configurations[name]["architecture"]
        arguments = architecture["arch_kwargs"]
        if "n_blocks_per_stage" in TINY_NETWORKS[name]:
            architecture["network_class_name"] = RESIDUAL
            arguments.pop("n_conv_per_stage")
        arguments.update(n_stages=3, **TINY_NETWORKS[name])


def train(folder: Path, configuration: str) -> None:
    """Train fold 0 for a few iterations."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    os.environ["nnUNet_n_proc_DA"] = "0"  # augment in this process
    torch.manual_seed(0)
    trainer = get_trainer_from_args(DATASET, configuration, 0, TRAINER, device=torch.device("cpu"))
    trainer.num_iterations_per_epoch = ITERATIONS
    trainer.num_val_iterations_per_epoch = 2
    trainer.run_training()


def predict(
    folder: Path, images: list[list[str]], configuration: str, folds: tuple[str, ...]
) -> Path:
    """Predict every image with nnU-Net's own predictor, as its command would."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    source = trained(folder, configuration)
    second = source / "fold_1"
    if "1" in folds and not second.exists():
        second.mkdir()
        disturb(source / "fold_0" / FINAL, second / FINAL)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(source), folds)
    target = folder / "predicted" / "-".join((configuration, *folds))
    target.mkdir(parents=True, exist_ok=True)
    names = [Path(case[0]).name.removesuffix(".nii.gz").removesuffix("_0000") for case in images]
    predictor.predict_from_files_sequential(
        images, [str(target / name) for name in names], save_probabilities=True
    )
    (target / "done").touch()
    return target


def disturb(source: Path, target: Path) -> None:
    """Write a checkpoint with noise on its weights, of a fifth of their deviation."""
    import torch

    torch.manual_seed(1)
    content = torch.load(source, map_location="cpu", weights_only=False)  # nnU-Net's own
    done: set[int] = set()
    for value in content["network_weights"].values():
        if value.data_ptr() not in done and value.numel() > 1:  # some have two names
            value += 0.2 * value.std() * torch.randn_like(value)
        done.add(value.data_ptr())
    torch.save(content, target)


def make_fixture(folder: Path, target: Path) -> None:
    """Train on made-up stacks of two channels, predict one more, and copy what tests need."""
    import numpy as np
    import SimpleITK

    generator = np.random.default_rng(0)
    dataset = folder / "raw" / DATASET
    for name in ("imagesTr", "labelsTr"):
        (dataset / name).mkdir(parents=True, exist_ok=True)
    for case in range(7):
        image, labels = made_up(generator)
        places = [dataset / "imagesTr" / f"case_{case}_{channel:04d}.nii.gz" for channel in (0, 1)]
        for values, path in zip((*image, labels), (*places, None), strict=True):
            volume = SimpleITK.GetImageFromArray(values)
            volume.SetSpacing((1.0, 1.0, 3.5))
            SimpleITK.WriteImage(volume, str(path or dataset / "labelsTr" / f"case_{case}.nii.gz"))
    description = {
        "channel_names": {"0": "MRI", "1": "CT"},
        "labels": {"background": 0, "ball": 1, "core": 2},
        "numTraining": 7,
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))
    plan(tiny)
    prepare(*TINY)
    results = {"image": np.stack(image)}
    for configuration in TINY:
        if not (trained(folder, configuration) / "fold_0" / FINAL).exists():
            train(folder, configuration)
        for folds in (("0",), ("0", "1")):
            found = predict(folder, [[str(p) for p in places]], configuration, folds)
            labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(f"{found}/case_6.nii.gz"))
            results["-".join((configuration, *folds))] = labels.astype(np.uint8)
        source = trained(folder, configuration)
        for name in ("plans.json", "dataset.json", *(f"fold_{f}/{FINAL}" for f in (0, 1))):
            copy = target / source.name / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, copy)
    np.savez_compressed(target / "case.npz", **results)


def made_up(generator: Any) -> tuple[list[Any], Any]:
    """Return a stack with a few balls, each with a core: two channels, and the truth."""
    import numpy as np

    shape = (9, 34, 30)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint8)
    for _ in range(3):
        low, high = (2, 12, 10), (7, 24, 20)
        cz, cy, cx = (generator.integers(a, b) for a, b in zip(low, high, strict=True))
        distance = np.sqrt((3.5 * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        labels[distance < 6] = np.maximum(labels, 1)[distance < 6]
        labels[distance < 3] = 2
    first = 200 + 150 * labels + generator.normal(0, 60, shape)
    second = -300 + 400 * (labels == 2) + generator.normal(0, 80, shape)
    inside = np.zeros(shape, bool)
    inside[1:-1, 4:-4, 3:-2] = True  # around it is nothing, which nnU-Net crops
    return [np.where(inside, c, 0).astype(np.int16) for c in (first, second)], labels * inside


def trained(folder: Path, configuration: str) -> Path:
    """Return where nnU-Net keeps the trained model of a configuration."""
    return folder / "results" / DATASET / f"{TRAINER}__nnUNetPlans__{configuration}"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
