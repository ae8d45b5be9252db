"""The first layers of EfficientNet-Lite0, in torch alone.

Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(arXiv:1905.11946), in the variant for small devices: inverted residual blocks without squeeze
and excitation, ReLU6. Parameters have the names of timm's ``tf_efficientnet_lite0``, whose
weights fit; timm itself loads torch's compiler, which a window must not.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

STRIDE = 16  # of the last stage
_STEM = 32
# Of each stage: edge of the kernel, stride, by how much it expands, features, blocks.
_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3))
_EPSILON = 1e-3


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow does: where it can not be even, more at the end."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        padding: list[int] = []
        for size, edge, stride in zip(
            values.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            lacking = max((-(-size // stride) - 1) * stride + edge - size, 0)
            padding += [lacking // 2, lacking - lacking // 2]
        return super().forward(functional.pad(values, padding))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _depthwise(channels: int, edge: int, stride: int) -> nn.Conv2d:
    return _Same(channels, channels, edge, stride, groups=channels, bias=False)


class _Separable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self, before: int, after: int, edge: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _depthwise(before, edge, stride), _norm(before)
        self.conv_pw, self.bn2 = nn.Conv2d(before, after, 1, bias=False), _norm(after)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = functional.relu6(self.bn1(self.conv_dw(values)))
        result: torch.Tensor = self.bn2(self.conv_pw(values))
        return result


class _Inverted(nn.Module):
    """An inverted residual block: wide inside, narrow where it is added."""

    def __init__(self, before: int, after: int, edge: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.conv_pw, self.bn1 = nn.Conv2d(before, wide, 1, bias=False), _norm(wide)
        self.conv_dw, self.bn2 = _depthwise(wide, edge, stride), _norm(wide)
        self.conv_pwl, self.bn3 = nn.Conv2d(wide, after, 1, bias=False), _norm(after)
        self.adds = stride == 1 and before == after

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        inside = functional.relu6(self.bn1(self.conv_pw(values)))
        inside = functional.relu6(self.bn2(self.conv_dw(inside)))
        result: torch.Tensor = self.bn3(self.conv_pwl(inside))
        return result + values if self.adds else result


class FirstLayers(nn.Module):
    """Stem and first four stages, with random weights.

    Takes photographs, axes (N, 3, Y, X), range about [-1, 1], edges multiples of
    :data:`STRIDE`; returns 16, 24, 40 and 80 features at strides 2, 4, 8 and 16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = _Same(3, _STEM, 3, 2, bias=False), _norm(_STEM)
        self.blocks, before = nn.ModuleList(), _STEM
        for edge, stride, expansion, after, count in _STAGES:
            stage: list[nn.Module] = []
            for number in range(count):
                step = 1 if number else stride
                if expansion == 1:
                    stage.append(_Separable(before, after, edge, step))
                else:
                    stage.append(_Inverted(before, after, edge, step, expansion))
                before = after
            self.blocks.append(nn.Sequential(*stage))

    def forward(self, photographs: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of each stage, axes (N, C, Y, X)."""
        features, stages = functional.relu6(self.bn1(self.conv_stem(photographs))), []
        for block in self.blocks:
            features = block(features)
            stages.append(features)
        return stages
