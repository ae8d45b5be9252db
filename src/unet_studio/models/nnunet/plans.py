"""Understand ``plans.json`` and ``dataset.json`` of nnU-Net v2.

Both are read as plain values. Every name in them that stands for code (network,
normalisation, resampling, trainer) is looked up in a list; what is not on it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from unet_studio.errors import ModelError
from unet_studio.images.nnunet import ChannelScheme, Interpolation, NnunetPreparer
from unet_studio.models.networks.nnunet import UNetPlan
from unet_studio.models.nnunet.schema import (
    Configuration,
    Dataset,
    Intensities,
    OldConfiguration,
    Plans,
)

_SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
    "NoNormalization": "none",
}
# How nnU-Net read the training images, and so what its voxel sizes mean.
_READERS: dict[str, Literal["millimeter", "given", "none"]] = {
    "SimpleITKIO": "millimeter",
    "SimpleITKIOWithReorient": "millimeter",
    "NibabelIO": "millimeter",
    "NibabelIOWithReorient": "millimeter",
    "Tiff3DIO": "given",
    "NaturalImage2DIO": "none",
}
_REORIENTED = (
    "The model was trained on images that had been turned to the standard orientation (right, "
    "anterior, superior). Turn yours first if they are stored otherwise."
)
_INSTEAD = "Run this model with nnU-Net itself."
_NETWORKS = {"PlainConvUNet": False, "ResidualEncoderUNet": True}
# What a network's keyword arguments are called here; others must be as in _FIXED.
_ARGUMENTS = {
    "features_per_stage": "widths",
    "kernel_sizes": "kernels",
    "strides": "strides",
    "n_conv_per_stage": "counts",
    "n_blocks_per_stage": "counts",
    "n_conv_per_stage_decoder": "decoder_counts",
}
_NORMS = {
    "InstanceNorm2d": "instance",
    "InstanceNorm3d": "instance",
    "BatchNorm2d": "batch",
    "BatchNorm3d": "batch",
}
# What nnU-Net always plans, and the only form that its networks have here.
_FIXED: dict[str, tuple[Any, ...]] = {
    "conv_bias": (True,),
    "norm_op_kwargs": ({"eps": 1e-5, "affine": True},),
    "nonlin": ("LeakyReLU",),
    "nonlin_kwargs": ({"inplace": True}, {"inplace": True, "negative_slope": 0.01}),
    "nonlin_first": (False,),
}
_WITHOUT_EFFECT = ("n_stages", "conv_op", "norm_op", "dropout_op", "dropout_op_kwargs",
                   "deep_supervision")  # fmt: skip
# Trainers that nnU-Net ships and that train differently, but build the planned network.
_TRAINERS = re.compile(
    r"nnUNetTrainer(_?(\d+epochs?|\d+ep|NoMirroring|onlyMirror01|noDummy2DDA|NoDA|DA5|DAOrd0|ord0"
    r"|Segord0|DASegOrd0|warmup|CosAnneal|Adan|VanillaAdam|Adam|\den\d|DiceLoss|DiceCELoss|noSmooth"
    r"|Topk10Loss|LS01|DiceTopK10Loss|CELoss|NoDeepSupervision|probabilisticOversampling|0\d\d"
    r"|Benchmark|noDataLoading|BN))*"
)


@dataclass(frozen=True)
class Planned:
    """One configuration, understood.

    Attributes
    ----------
    dataset_name : str
    configuration : str
    network : UNetPlan
    preparer : NnunetPreparer
    channels : tuple of str
        Names of the input channels.
    classes : tuple of str
        Names of the classes, the background first.
    """

    dataset_name: str
    configuration: str
    network: UNetPlan
    preparer: NnunetPreparer
    channels: tuple[str, ...]
    classes: tuple[str, ...]


def understand(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    configuration: str,
    trainer: str,
    *,
    any_trainer: bool = False,
) -> Planned:
    """Translate the plan of one configuration.

    Parameters
    ----------
    plans, dataset : mapping
        Contents of ``plans.json`` and ``dataset.json``.
    configuration, trainer : str
        As the checkpoint names them.
    any_trainer : bool
        Accept a trainer that is not nnU-Net's own, which may have built another network
        than the plan's, or prepared images otherwise.

    Raises
    ------
    ModelError
        If something is missing or is not known here.
    """
    if not _TRAINERS.fullmatch(trainer) and not any_trainer:
        raise ModelError(
            f"The model was trained by {trainer!r}, which is not one of nnU-Net's own trainers: "
            "it may have changed the network or the preparation in ways that no file tells. If "
            "you know that it did not: --set trainer=any, or nnunet:FOLDER?trainer=any."
        )
    try:
        plan = Plans.model_validate(plans)
        described = Dataset.model_validate(dataset)
        chosen = Configuration.model_validate(_resolved(plan.configurations, configuration))
        channels = _in_order(described.channel_names)
        return Planned(
            plan.dataset_name,
            configuration,
            _network(chosen, batch_norm="BN" in trainer and not any_trainer),
            _preparer(plan, chosen, len(channels)),
            channels,
            _classes(described),
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"plans.json or dataset.json of the model can not be used: {place or error.title}: "
            f"{first['msg']}. Copy them again from where the model was trained."
        ) from None


def _resolved(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with what it inherits, in the form of today's plans."""
    values: dict[str, Any] = {}
    visited: list[str] = []
    current: Any = name
    while current is not None:
        if current not in configurations or current in visited:
            raise ModelError(
                f"plans.json has no usable configuration {name!r}; it has "
                f"{', '.join(configurations) or 'none'}. Copy it again from where the model was "
                "trained."
            )
        visited.append(current)
        values = {**configurations[current], **values}
        current = configurations[current].get("inherits_from")
    if values.get("previous_stage"):
        raise ModelError(
            f"The configuration {name!r} is the second stage of a cascade: it needs the result of "
            f"{values['previous_stage']!r} as a further input, which is not supported. Use "
            "'3d_fullres' or '3d_lowres'."
        )
    if "architecture" not in values:
        values["architecture"] = _old_architecture(OldConfiguration.model_validate(values))
    return values


def _old_architecture(old: OldConfiguration) -> dict[str, Any]:
    ndim = len(old.conv_kernel_sizes[0]) if old.conv_kernel_sizes else 3
    stages = range(len(old.n_conv_per_stage_encoder))
    width, widest = old.UNet_base_num_features, old.unet_max_num_features
    encoder = (
        "n_conv_per_stage" if old.UNet_class_name == "PlainConvUNet" else "n_blocks_per_stage"
    )
    return {
        "network_class_name": old.UNet_class_name,
        "arch_kwargs": {
            "features_per_stage": [min(width * 2**stage, widest) for stage in stages],
            "kernel_sizes": old.conv_kernel_sizes,
            "strides": old.pool_op_kernel_sizes,
            encoder: old.n_conv_per_stage_encoder,
            "n_conv_per_stage_decoder": old.n_conv_per_stage_decoder,
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{ndim}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }


def _network(chosen: Configuration, *, batch_norm: bool) -> UNetPlan:
    name = chosen.architecture.network_class_name.rpartition(".")[2]
    if name not in _NETWORKS:
        raise ModelError(
            f"The network {chosen.architecture.network_class_name!r} is not known here; of "
            f"nnU-Net's, {' and '.join(_NETWORKS)} are. {_INSTEAD}"
        )
    arguments = {k: v for k, v in chosen.architecture.arch_kwargs.items() if v is not None}
    for key, value in arguments.items():
        # Of classes only the name counts: nothing that plans name is ever imported.
        plain = _class_name(value) if isinstance(value, str) else value
        known = key in _ARGUMENTS or key in _WITHOUT_EFFECT
        if not known and plain not in _FIXED.get(key, ()):
            raise ModelError(
                f"The network {name} of the plans has the option {key} = {value!r}, which is not "
                f"known here: nnU-Net's own plans do not have it. {_INSTEAD}"
            )
    norm = _class_name(arguments.get("norm_op"))
    ndim = len(chosen.patch_size)
    if norm not in _NORMS or "nonlin" not in arguments or "norm_op_kwargs" not in arguments:
        raise ModelError(
            f"The network {name} of the plans has the normalisation {norm!r} and the nonlinearity "
            f"{arguments.get('nonlin')!r}; known are {', '.join(_NORMS)}, and LeakyReLU. "
            f"{_INSTEAD}"
        )
    options = {_ARGUMENTS[k]: v for k, v in arguments.items() if k in _ARGUMENTS}
    return UNetPlan.model_validate(
        {
            "residual": _NETWORKS[name],
            "norm": "batch" if batch_norm else _NORMS[norm],
            **_spread(options, ndim),
        }
    )


def _class_name(value: Any) -> str:
    """Return the class of ``torch.nn`` that a text names; nothing is imported."""
    module, _, name = str(value).rpartition(".")
    if module not in ("", "torch.nn") and not module.startswith("torch.nn.modules."):
        raise ModelError(
            f"The plans name {value!r} as a part of the network; only parts of torch.nn are used. "
            f"{_INSTEAD}"
        )
    return name


def _spread(options: dict[str, Any], ndim: int) -> dict[str, Any]:
    """Write single numbers, which stand for all stages or axes, as often as they count."""
    stages = next((len(v) for v in options.values() if isinstance(v, list | tuple)), 0)
    for name, count in (
        ("widths", stages), ("counts", stages), ("decoder_counts", stages - 1),
        ("kernels", stages), ("strides", stages),
    ):  # fmt: skip
        if isinstance(options.get(name), int):
            options[name] = [options[name]] * count
    for name in ("kernels", "strides"):
        if isinstance(options.get(name), list | tuple):
            options[name] = [[v] * ndim if isinstance(v, int) else v for v in options[name]]
    return options


def _preparer(plan: Plans, chosen: Configuration, channels: int) -> NnunetPreparer:
    reader = _READERS.get(plan.image_reader_writer)
    if reader is None:
        raise ModelError(
            f"The training images were read by {plan.image_reader_writer!r}, which is not known "
            f"here; known: {', '.join(_READERS)}. {_INSTEAD}"
        )
    if chosen.preprocessor_name != "DefaultPreprocessor":
        raise ModelError(
            f"The images were prepared by {chosen.preprocessor_name!r}, which is not known here; "
            f"nnU-Net's DefaultPreprocessor is. {_INSTEAD}"
        )
    if not len(chosen.normalization_schemes) == len(chosen.use_mask_for_norm) == channels:
        raise ModelError(
            f"plans.json normalises {len(chosen.normalization_schemes)} channels, dataset.json "
            f"names {channels}: they belong to different models. Copy the whole folder again."
        )
    return NnunetPreparer(
        spacing=chosen.spacing,
        patch=chosen.patch_size,
        channels=tuple(_scheme(plan, chosen, index) for index in range(channels)),
        transpose=plan.transpose_forward,
        pixel_sizes=reader,
        data=_interpolation(chosen.resampling_fn_data, chosen.resampling_fn_data_kwargs, 3),
        logits=_interpolation(
            chosen.resampling_fn_probabilities, chosen.resampling_fn_probabilities_kwargs, 1
        ),
        remark=_REORIENTED if plan.image_reader_writer.endswith("WithReorient") else "",
    )


def _scheme(plan: Plans, chosen: Configuration, index: int) -> ChannelScheme:
    name = chosen.normalization_schemes[index]
    if name not in _SCHEMES:
        raise ModelError(
            f"The normalisation {name!r} is not known here; known: {', '.join(_SCHEMES)}. "
            f"{_INSTEAD}"
        )
    values: dict[str, Any] = {
        "scheme": _SCHEMES[name],
        "masked": chosen.use_mask_for_norm[index] and name == "ZScoreNormalization",
    }
    if name == "CTNormalization":
        measured = (
            plan.foreground_intensity_properties_per_channel
            or plan.foreground_intensity_properties_by_modality
            or {}
        )
        found = Intensities.model_validate(measured.get(str(index), {}))
        values |= {"mean": found.mean, "std": found.std}
        values |= {"low": found.percentile_00_5, "high": found.percentile_99_5}
    return ChannelScheme(**values)


def _interpolation(function: str, options: Mapping[str, Any], order: int) -> Interpolation:
    common: dict[str, Any] = {"separate": options.get("force_separate_z")}
    if "separate_z_anisotropy_threshold" in options:
        common["threshold"] = options["separate_z_anisotropy_threshold"]
    if function == "resample_data_or_seg_to_shape":
        return Interpolation(
            order=options.get("order", order), order_along=options.get("order_z", 0), **common
        )
    if function == "resample_torch_fornnunet" and options.get("mode", "linear") == "linear":
        nearest = options.get("aniso_axis_mode", "nearest-exact") == "nearest-exact"
        return Interpolation(order=1, order_along=0 if nearest else 1, **common)
    raise ModelError(
        f"The way of resampling {function!r} of the plans is not known here. {_INSTEAD}"
    )


def _in_order(names: Mapping[str, Any]) -> tuple[str, ...]:
    if sorted(names) != sorted(str(i) for i in range(len(names))) or not names:
        raise ModelError(
            "dataset.json does not number its channel_names from 0 on. Copy it again from where "
            "the model was trained."
        )
    return tuple(str(names[str(i)]) for i in range(len(names)))


def _classes(dataset: Dataset) -> tuple[str, ...]:
    """Return the classes in the order of their values, which run from 0 on."""
    values: dict[int, str] = {}
    for name, value in dataset.labels.items():
        if name == "ignore":  # was not learned, and has no output
            continue
        single = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(single, list):
            raise ModelError(
                f"The label {name!r} is a region made of several others ({value}). Models of "
                "overlapping regions are not supported; use one that was trained on plain labels."
            )
        if not isinstance(single, int) or single in values:
            raise ModelError(
                f"The label {name!r} of dataset.json has no usable value ({value}). Copy it again "
                "from where the model was trained."
            )
        values[single] = name
    if sorted(values) != list(range(len(values))) or len(values) < 2:
        raise ModelError(
            f"The labels of dataset.json have the values {sorted(values)}; they should run from 0 "
            "(background) on. Copy it again from where the model was trained."
        )
    return tuple(values[i] for i in range(len(values)))
