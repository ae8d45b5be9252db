"""Make a model of ours of one that nnU-Net v2 trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from torch import nn

from unet_studio.errors import ModelError
from unet_studio.images.limits import available_memory, readable_size
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model, build_network, check_weights, shapes_only
from unet_studio.models.nnunet.checkpoint import Checkpoint, in_memory, read_checkpoint
from unet_studio.models.nnunet.folder import (
    DATASET,
    DEFAULT_CHECKPOINT,
    PLANS,
    Trained,
    find_trained,
)
from unet_studio.models.nnunet.plans import Planned, understand
from unet_studio.models.per_axis import joined
from unet_studio.models.probe import activation_bytes_per_pixel
from unet_studio.recipe import Normalisation, Preparation
from unet_studio.user_paths import user_path

CITATION = (
    "Isensee, F., Jaeger, P.F., Kohl, S.A.A. et al.: nnU-Net: a self-configuring method for deep "
    "learning-based biomedical image segmentation. Nature Methods 18, 203-211 (2021). "
    "doi:10.1038/s41592-020-01008-z"
)
# The share of a patch by which neighbours overlap in nnU-Net's own prediction.
_OVERLAP = 0.5
_OPTIONS = ("configuration", "fold", "checkpoint", "trainer")


def import_nnunet(
    path: str | Path,
    *,
    configuration: str | None = None,
    folds: Sequence[str | int] | None = None,
    checkpoint: str = DEFAULT_CHECKPOINT,
    any_trainer: bool = False,
) -> Model:
    """Load a trained model of nnU-Net v2.

    Parameters
    ----------
    path : str or Path
        The folder of the trained model (``Trainer__Plans__configuration``), a folder
        above it, or a zip as ``nnUNetv2_export_model_to_zip`` makes it.
    configuration : str, optional
        Such as "3d_fullres", where the path holds several.
    folds : sequence of str or int, optional
        Which of the cross-validation's networks ("all" for one that was trained on all
        cases). The logits of several are averaged. All numbered ones by default.
    checkpoint : str
        File name in the folders of the folds.
    any_trainer : bool
        Accept a trainer that is not nnU-Net's own; the network must still be the plan's.

    Returns
    -------
    Model
        Not saved yet; :func:`unet_studio.models.model.save_model` makes one file of it.

    Raises
    ------
    ModelError
        If something is missing, damaged, unknown, or could run code.
    """
    trained = _choose(user_path(path), configuration)
    chosen = _choose_folds(trained, checkpoint, folds)
    plans, dataset = trained.json(PLANS), trained.json(DATASET)
    read = [read_checkpoint(trained, fold, checkpoint) for fold in chosen]
    if len({(c.configuration, c.trainer, c.mirror_axes) for c in read}) > 1:
        raise ModelError(
            f"The folds {', '.join(chosen)} in {trained.where} were trained in different ways. "
            "Choose one: --set fold=0, or nnunet:FOLDER?fold=0."
        )
    planned = understand(
        plans, dataset, read[0].configuration, read[0].trainer, any_trainer=any_trainer
    )
    card = _card(planned, dataset, trained, read, chosen)
    with shapes_only():  # shapes are compared before memory is taken
        network = build_network(card)
    _check_memory(network, trained)
    for index, (fold, one) in enumerate(zip(chosen, read, strict=True)):
        expected = network.get_submodule(f"members.{index}")
        check_weights(expected, one.weights, f"fold_{fold}/{checkpoint} in {trained.where}")
        expected.load_state_dict(in_memory(one.weights), assign=True)
    network.eval().requires_grad_(False)
    measured = {
        "bytes_per_pixel": round(
            activation_bytes_per_pixel(network, card.in_channels, card.strides), 1
        ),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    return Model(card.model_copy(update=measured), network, notes=_notes(chosen))


def from_nnunet(what: str) -> Model:
    """Load what a reference ``nnunet:FOLDER?options`` names.

    Parameters
    ----------
    what : str
        A path, then options as in a web address: ``configuration=3d_fullres``,
        ``fold=0`` (or ``fold=0,1``, ``fold=all``), ``checkpoint=checkpoint_best.pth``,
        ``trainer=any``.

    Raises
    ------
    ModelError
    """
    path, _, query = what.partition("?")
    return import_with(path, dict(parse_qsl(query, keep_blank_values=True)))


def import_with(path: str | Path, options: Mapping[str, str]) -> Model:
    """Load a trained model of nnU-Net v2, with options as words; see :func:`from_nnunet`.

    Raises
    ------
    ModelError
        As :func:`import_nnunet`, and for an option that there is not.
    """
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown or options.get("trainer", "any") != "any":
        raise ModelError(
            f"A model of nnU-Net has no option {unknown[0] if unknown else 'trainer'!r} of this "
            f"kind. Known: {', '.join(_OPTIONS)} (the last only as trainer=any)."
        )
    fold = options.get("fold")
    return import_nnunet(
        path,
        configuration=options.get("configuration"),
        folds=fold.split(",") if fold else None,
        checkpoint=options.get("checkpoint", DEFAULT_CHECKPOINT),
        any_trainer="trainer" in options,
    )


def _check_memory(network: nn.Module, trained: Trained) -> None:
    needed = 4 * sum(p.numel() for p in network.parameters())
    free = available_memory()
    if needed > free:
        raise ModelError(
            f"The networks in {trained.where} need {readable_size(needed)} of memory, but "
            f"{readable_size(free)} are free. Close other programs, or use a single fold."
        )


def _choose(path: Path, configuration: str | None) -> Trained:
    found = find_trained(path)
    if not found:
        raise ModelError(
            f"There is no model of nnU-Net v2 in {path}: no {PLANS} beside {DATASET} and folders "
            "fold_0 to fold_4. Give the folder called Trainer__Plans__configuration."
        )
    names = ", ".join(t.prefix.rstrip("/") or t.name for t in found)
    if configuration is not None:
        found = [t for t in found if t.name.rpartition("__")[2] == configuration]
    if len(found) != 1:
        raise ModelError(
            f"{path} holds {'no such' if not found else 'more than one'} trained configuration: "
            f"{names}. Choose one of these folders, or --set configuration=3d_fullres "
            "(nnunet:FOLDER?configuration=3d_fullres)."
        )
    return found[0]


def _choose_folds(
    trained: Trained, checkpoint: str, wanted: Sequence[str | int] | None
) -> tuple[str, ...]:
    there = trained.checkpoints.get(checkpoint, ())
    if not there:
        others = ", ".join(trained.checkpoints) or "none at all"
        raise ModelError(
            f"{trained.where} has no fold with {checkpoint} (there is: {others}): its training "
            "may not have ended, or files were not copied. Name another checkpoint: "
            "--set checkpoint=checkpoint_best.pth (nnunet:FOLDER?checkpoint=…)."
        )
    if wanted is None:
        return tuple(f for f in there if f != "all") or there
    folds = tuple(dict.fromkeys(str(f).strip().removeprefix("fold_") for f in wanted))
    missing = [f for f in folds if f not in there]
    if missing or not folds:
        raise ModelError(
            f"{trained.where} has no fold {missing[0] if missing else ''!r} with {checkpoint}; "
            f"it has {', '.join(there)}. Choose among these."
        )
    return folds


def _card(
    planned: Planned,
    dataset: dict[str, Any],
    trained: Trained,
    read: Sequence[Checkpoint],
    folds: Sequence[str],
) -> ModelCard:
    network = planned.network.model_copy(update={"members": len(folds)})
    patch = planned.preparer.patch
    if network.ndim != len(patch) or any(
        p % s for p, s in zip(patch, network.stride, strict=False)
    ):
        raise ModelError(
            f"plans.json in {trained.where} has a patch of {patch} pixels, which its network can "
            f"not pool by {network.stride}. Copy it again from where the model was trained."
        )
    if max(read[0].mirror_axes, default=0) >= network.ndim:
        raise ModelError(
            f"The checkpoints in {trained.where} mirror an axis that is not there. Copy them "
            "again from where the model was trained."
        )

    def text(key: str) -> str:
        value = dataset.get(key, "")
        return value.strip() if isinstance(value, str) else ""

    return ModelCard(
        name=f"{planned.dataset_name}-{planned.configuration}",
        architecture="nnunet",
        options=network.model_dump(mode="json"),
        in_channels=len(planned.channels),
        ndim=3 if network.ndim == 3 else 2,
        representation="classes",
        classes=planned.classes,
        normalisation=Normalisation(method="fixed"),  # the preparation has done it
        preparation=Preparation(method="nnunet", options=planned.preparer.model_dump(mode="json")),
        flips=bool(read[0].mirror_axes),
        mirror_axes=read[0].mirror_axes or None,
        patch=joined(patch),
        overlap=_OVERLAP,
        voxel_size=_voxel_size(planned),
        stride=joined(network.stride),
        tile_invariant=False,  # run in patches, as nnU-Net does, whatever it is made of
        description=_description(planned, text("description"), folds),
        licence=text("licence") or text("license") or "unknown",
        citation="; ".join(t for t in (CITATION, text("reference")) if t),
        training_data=text("name") or planned.dataset_name,
        source=f"nnU-Net v2: {trained.name}",
        training={
            "trainer": read[0].trainer,
            "configuration": planned.configuration,
            "folds": list(folds),
            "epochs": [one.epochs for one in read],
        },
    )


def _voxel_size(planned: Planned) -> tuple[float, ...] | None:
    """Return the voxel size in micrometres, in the image's own order of axes."""
    preparer = planned.preparer
    if preparer.pixel_sizes != "millimeter" or len(preparer.spacing) == 2:
        return None
    size = dict(zip(preparer.transpose, preparer.spacing, strict=True))
    return tuple(1000 * size[axis] for axis in range(3))


def _description(planned: Planned, own: str, folds: Sequence[str]) -> str:
    networks = f"fold {folds[0]}" if len(folds) == 1 else f"mean of folds {', '.join(folds)}"
    text = (
        f"nnU-Net v2, {planned.configuration}, {networks}. Input channels: "
        f"{', '.join(planned.channels)}. Voxels of "
        f"{' × '.join(f'{s:g}' for s in planned.preparer.spacing)}."
    )
    return f"{own} ({text})" if own else text


def _notes(folds: Sequence[str]) -> tuple[str, ...]:
    if len(folds) == 1:
        return ()
    return (
        f"{len(folds)} networks (folds {', '.join(folds)}) are averaged, as nnU-Net does, which "
        f"takes {len(folds)} times as long as one. To use one: --set fold={folds[0]}, or "
        f"nnunet:FOLDER?fold={folds[0]}.",
    )
