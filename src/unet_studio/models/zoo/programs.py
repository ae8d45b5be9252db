"""Our networks as programs for others: ONNX and TorchScript, checked before they are kept.

Both hold the bare network: what goes in is normalised already, what comes out are the
card's ``output``, logits most often.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from unet_studio.errors import ModelError, OutputError
from unet_studio.images.atomic import atomic_file
from unet_studio.models.model import Model
from unet_studio.models.networks import EMBEDDED, PROGRAMS
from unet_studio.models.networks.onnx import INSTALL, open_session

# Of the deviation of the output. Rounding in another order gives about 5e-6.
TOLERANCE = 1e-4
# Old enough for every runtime in use; all our networks' operators are in it.
OPSET = 17
_TRIALS = 2
_OTHERWISE = "Export the model file instead (--to file)."


def export_onnx(model: Model, target: Path) -> float:
    """Write the network as one ``.onnx`` file, for any batch and image size.

    Lengths of the image have to be multiples of the card's stride.

    Parameters
    ----------
    model : Model
    target : Path
        Replaced only once the file is complete and has been compared.

    Returns
    -------
    float
        Largest difference of ONNX Runtime to torch over two sizes of random images,
        relative to the output's standard deviation.

    Raises
    ------
    ModelError
        If the network can not be written as ONNX, or does not give the same there.
    """
    program = onnx_program(model)
    difference = _onnx_difference(model, program)
    _keep(program, target)
    return difference


def export_torchscript(model: Model, target: Path) -> float:
    """Write the network as one TorchScript file (traced).

    Parameters and errors are those of :func:`export_onnx`.

    Returns
    -------
    float
        Largest difference, as there.
    """
    program = torchscript_program(model)
    difference = _torchscript_difference(model, program)
    _keep(program, target)
    return difference


def onnx_program(model: Model) -> bytes:
    """Return the network as ONNX.

    Raises
    ------
    ModelError
        If it can not be written so.
    """
    if model.card.architecture == "onnx":
        return bytes(model.network.program())  # type: ignore[operator]
    _check_ours(model, "ONNX")
    try:
        import onnx  # noqa: F401 (the exporter needs it)
    except ImportError:
        raise ModelError(f"Writing ONNX needs the package onnx. {INSTALL}") from None
    axes = {0: "batch", **{2 + i: a for i, a in enumerate("zyx"[-model.card.ndim :])}}
    stream = io.BytesIO()
    try:
        with _quiet(), torch.no_grad():
            # The exporter that traces: 1 s, where the one over torch.export takes 30 s.
            torch.onnx.export(
                model.network,
                (example_tensor(model),),
                stream,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": axes, "output": axes},
            )
    except Exception as error:  # the exporter raises nearly anything
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise ModelError(
            f"The network of {model.card.name!r} can not be written as ONNX: {said}. {_OTHERWISE}"
        ) from error
    return stream.getvalue()


def torchscript_program(model: Model) -> bytes:
    """Return the network as traced TorchScript.

    Raises
    ------
    ModelError
        If it can not be written so.
    """
    if model.card.architecture == "torchscript":
        return bytes(model.network.program())  # type: ignore[operator]
    _check_ours(model, "TorchScript")
    stream = io.BytesIO()
    try:
        with _quiet(), torch.no_grad():
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                model.network, example_tensor(model), check_trace=False
            )
            torch.jit.save(traced, stream)
    except (RuntimeError, ValueError, TypeError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise ModelError(
            f"The network of {model.card.name!r} can not be traced: {said}. {_OTHERWISE}"
        ) from error
    return stream.getvalue()


def example_tensor(model: Model, trial: int = 0) -> torch.Tensor:
    """Return a random batch (N, C, [Z,] Y, X) that the network takes; another for each trial."""
    card = model.card
    edges = [(4 + 2 * trial + i) * stride for i, stride in enumerate(card.strides)]
    generator = torch.Generator().manual_seed(trial)
    return torch.randn((1 + trial, card.in_channels, *edges), generator=generator)


def _check_ours(model: Model, kind: str) -> None:
    if model.card.architecture in EMBEDDED:
        raise ModelError(
            f"{model.card.name!r} is {PROGRAMS[model.card.architecture]}; it can not be turned "
            f"into {kind}. Export it as what it is, or as a package (--to bioimageio)."
        )


def _onnx_difference(model: Model, program: bytes) -> float:
    session = open_session(program, model.card.name)
    if model.card.architecture == "onnx":
        return 0.0
    name = session.get_inputs()[0].name
    found = [
        torch.from_numpy(session.run(None, {name: example_tensor(model, i).numpy()})[0])
        for i in range(_TRIALS)
    ]
    return _compared(model, found, "ONNX")


def _torchscript_difference(model: Model, program: bytes) -> float:
    if model.card.architecture == "torchscript":
        return 0.0
    with _quiet(), torch.no_grad():
        module = torch.jit.load(io.BytesIO(program))  # type: ignore[no-untyped-call]
        found = [module(example_tensor(model, i)) for i in range(_TRIALS)]
    return _compared(model, found, "TorchScript")


@torch.no_grad()
def _compared(model: Model, found: list[torch.Tensor], kind: str) -> float:
    largest = 0.0
    for trial, result in enumerate(found):
        expected = model.network(example_tensor(model, trial))
        error = (result - expected).abs().max() / expected.std().clamp(min=1e-12)
        largest = max(largest, float(error))
    if not largest <= TOLERANCE:
        raise ModelError(
            f"As {kind}, the network of {model.card.name!r} gives other results (by {largest:.1e} "
            f"of their deviation); nothing was written. {_OTHERWISE}"
        )
    return largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's remarks on its old exporter and on constants in traces from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _keep(program: bytes, target: Path) -> None:
    try:
        with atomic_file(target) as stream:
            stream.write(program)
    except OutputError as error:
        raise ModelError(str(error)) from error


def state_dict_bytes(network: nn.Module) -> bytes:
    """Return a network's weights as ``torch.save`` writes them: tensors only."""
    stream = io.BytesIO()
    torch.save({n: w.detach().cpu().contiguous() for n, w in network.state_dict().items()}, stream)
    return stream.getvalue()
