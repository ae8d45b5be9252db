"""What ``plans.json`` and ``dataset.json`` of nnU-Net v2 hold, as far as it is used."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Architecture(_Part):
    """A network by name and keyword arguments."""

    network_class_name: str
    arch_kwargs: dict[str, Any]


class Configuration(_Part):
    """One configuration of a plan, such as "3d_fullres"."""

    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    preprocessor_name: str = "DefaultPreprocessor"
    resampling_fn_data: str = "resample_data_or_seg_to_shape"
    resampling_fn_data_kwargs: dict[str, Any] = {}
    resampling_fn_probabilities: str = "resample_data_or_seg_to_shape"
    resampling_fn_probabilities_kwargs: dict[str, Any] = {}
    architecture: Architecture
    previous_stage: str | None = None


class OldConfiguration(_Part):
    """How plans before nnU-Net 2.4 describe a network."""

    UNet_class_name: str
    UNet_base_num_features: int
    unet_max_num_features: int
    n_conv_per_stage_encoder: tuple[int, ...]
    n_conv_per_stage_decoder: tuple[int, ...]
    pool_op_kernel_sizes: tuple[tuple[int, ...], ...]
    conv_kernel_sizes: tuple[tuple[int, ...], ...]


class Intensities(_Part):
    """What the training images' foreground measured, of one channel."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Plans(_Part):
    """``plans.json``."""

    dataset_name: str = "nnU-Net"
    transpose_forward: tuple[int, ...]
    image_reader_writer: str = "SimpleITKIO"
    configurations: dict[str, dict[str, Any]]
    foreground_intensity_properties_per_channel: dict[str, dict[str, Any]] | None = None
    foreground_intensity_properties_by_modality: dict[str, dict[str, Any]] | None = None


class Dataset(_Part):
    """``dataset.json``."""

    channel_names: dict[str, Any]
    labels: dict[str, Any]
    name: str = ""
    description: str = ""
    reference: str = ""
    licence: str = ""
    license: str = ""
