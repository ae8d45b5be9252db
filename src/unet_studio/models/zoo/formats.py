"""How formats 0.4 and 0.5 write down the images of a model."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from unet_studio.errors import ModelError
from unet_studio.models.zoo.advice import ANOTHER, MENDED
from unet_studio.models.zoo.tensors import LETTERS, Axis, FileEntry, Loose, Process, Tensor


class _Axis05(Loose):
    type: str
    id: str = ""
    size: int | dict[str, Any] | None = None
    channel_names: list[str] = Field(default_factory=list)
    scale: float = 1.0
    unit: str | None = None
    halo: int = Field(default=0, ge=0)


class _Tensor05(Loose):
    id: str = ""
    axes: list[_Axis05]
    test_tensor: FileEntry | None = None
    preprocessing: list[Process] = Field(default_factory=list)
    postprocessing: list[Process] = Field(default_factory=list)
    data: Any = None
    optional: bool = False


class _Model05(Loose):
    inputs: list[_Tensor05] = Field(min_length=1)
    outputs: list[_Tensor05] = Field(min_length=1)


class _Shape04(Loose):
    min: list[int] | None = None
    step: list[int] | None = None
    reference_tensor: str | None = None
    scale: list[float | None] | None = None
    offset: list[float] | None = None


class _Tensor04(Loose):
    name: str = ""
    axes: str
    shape: list[int] | _Shape04
    data_range: list[Any] | None = None
    halo: list[int] | None = None
    preprocessing: list[Process] = Field(default_factory=list)
    postprocessing: list[Process] = Field(default_factory=list)


class _Model04(Loose):
    inputs: list[_Tensor04] = Field(min_length=1)
    outputs: list[_Tensor04] = Field(min_length=1)
    test_inputs: list[str] = Field(default_factory=list)
    test_outputs: list[str] = Field(default_factory=list)


def tensors_05(values: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the images that a model of format 0.5 takes, and those that it returns.

    Raises
    ------
    ModelError
        If they have axes or sizes that can not be run.
    pydantic.ValidationError
        If they are not described as the format wants it.
    """
    raw = _Model05.model_validate(values)
    inputs = [_tensor_05(t, []) for t in raw.inputs if not t.optional]
    return inputs, [_tensor_05(t, inputs) for t in raw.outputs]


def _tensor_05(raw: _Tensor05, references: list[Tensor]) -> Tensor:
    axes: list[Axis] = []
    for axis in raw.axes:
        names = {"batch": "batch", "channel": "channel"}.get(axis.type, axis.id or "x")
        letter = LETTERS.get(names)
        if letter is None or axis.type not in ("batch", "channel", "space"):
            raise ModelError(
                f"The model has an axis of {axis.type} ({names!r}), which is not run. {ANOTHER}"
            )
        size: Any = axis.size
        if letter == "b":
            size = None
        elif letter == "c":
            size = len(axis.channel_names) or axis.size
        elif isinstance(size, dict):
            size = _size_05(size, axis.scale, [*references, Tensor(raw.id, tuple(axes))], letter)
        axes.append(
            Axis(letter, size, tuple(axis.channel_names), axis.scale, axis.unit, axis.halo)
        )
    data = raw.data if isinstance(raw.data, list) else [raw.data]
    limits = data[0].get("range") if data and isinstance(data[0], dict) else None
    processes = tuple(raw.preprocessing or raw.postprocessing)
    return Tensor(raw.id, tuple(axes), processes, raw.test_tensor, _range(limits))


def _size_05(size: dict[str, Any], scale: float, known: list[Tensor], letter: str) -> Any:
    if "min" in size:
        return int(size["min"]), int(size.get("step", 1))
    wanted = LETTERS.get(str(size.get("axis_id")), "")
    for tensor in known:
        for axis in tensor.axes:
            if tensor.id == size.get("tensor_id") and axis.letter == wanted:
                if size.get("offset", 0) or axis.scale != scale or axis.size is None:
                    raise ModelError(
                        f"The model returns an image of another size than it takes (axis "
                        f"{letter}); such models can not be run yet. {ANOTHER}"
                    )
                return axis.size
    raise ModelError(f"The size of the axis {letter} is not described. {MENDED}")


def tensors_04(values: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the images that a model of format 0.4 takes, and those that it returns.

    Raises
    ------
    ModelError
        If they have axes or sizes that can not be run.
    pydantic.ValidationError
        If they are not described as the format wants it.
    """
    raw = _Model04.model_validate(values)

    def tests(names: list[str], count: int) -> list[FileEntry | None]:
        given: list[FileEntry | None] = [FileEntry(source=name) for name in names]
        return (given + [None] * count)[:count]

    inputs = [
        _tensor_04(tensor, test, [])
        for tensor, test in zip(raw.inputs, tests(raw.test_inputs, len(raw.inputs)), strict=True)
    ]
    outputs = [
        _tensor_04(tensor, test, inputs)
        for tensor, test in zip(
            raw.outputs, tests(raw.test_outputs, len(raw.outputs)), strict=True
        )
    ]
    return inputs, outputs


def _tensor_04(raw: _Tensor04, test: FileEntry | None, references: list[Tensor]) -> Tensor:
    if set(raw.axes) - set("bczyx") or len(set(raw.axes)) != len(raw.axes):
        raise ModelError(
            f"The model has axes {raw.axes!r}; b, c, z, y and x can be run. {ANOTHER}"
        )
    sizes: list[Any] = _sizes_04(raw, references)
    halos = raw.halo or [0] * len(raw.axes)
    if not len(sizes) == len(halos) == len(raw.axes):
        raise ModelError(f"The shape {sizes} does not fit the axes {raw.axes!r}. {MENDED}")
    axes = tuple(
        Axis(letter, _plain_size(letter, size), halo=halo)
        for letter, size, halo in zip(raw.axes, sizes, halos, strict=True)
    )
    processes = tuple(raw.preprocessing or raw.postprocessing)
    return Tensor(raw.name, axes, processes, test, _range(raw.data_range))


def _plain_size(letter: str, size: Any) -> Any:
    if letter == "b":
        return None
    return size[0] if letter == "c" and isinstance(size, tuple) else size


def _sizes_04(raw: _Tensor04, references: list[Tensor]) -> list[Any]:
    shape = raw.shape
    if isinstance(shape, list):
        return list(shape)
    if shape.min is not None and shape.step is not None:
        return [
            (least, step) if step else least
            for least, step in zip(shape.min, shape.step, strict=False)
        ]
    sizes: list[Any] = []
    reference = next((t for t in references if t.id == shape.reference_tensor), None)
    scales, offsets = shape.scale or [], shape.offset or []
    for letter, scale, offset in zip(raw.axes, scales, offsets, strict=False):
        axis = next((a for a in reference.axes if a.letter == letter), None) if reference else None
        if letter == "c":
            # The channels of an output: twice the offset where they hang on nothing else.
            base = axis.size if axis is not None and scale else 0
            sizes.append(round(int(str(base or 0)) * (scale or 0) + 2 * offset))
        elif letter == "b":
            sizes.append(None)
        elif axis is None or scale != 1 or offset:
            raise ModelError(
                f"The model returns an image of another size than it takes (axis {letter}); "
                f"such models can not be run yet. {ANOTHER}"
            )
        else:
            sizes.append(axis.size)
    return sizes


def _range(limits: Any) -> tuple[float | None, float | None] | None:
    if not isinstance(limits, list) or len(limits) != 2:
        return None
    try:
        low, high = (None if v is None else float(v) for v in limits)
    except (TypeError, ValueError):
        return None
    return low, high
