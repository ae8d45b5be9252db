"""ONNX models, run by ONNX Runtime on the CPU.

A graph of ONNX can name further files to read weights from, and operators from libraries
of others. Neither is allowed: what is run is what is in the model file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from unet_studio.errors import ModelError
from unet_studio.models.networks.embedded import Embedded

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
INSTALL = "Install it with: pip install 'napari-unet-studio[zoo]'"

# What it says when memory runs out.
_NO_MEMORY = ("bad_alloc", "failed to allocate", "out of memory", "not enough memory")


class OnnxNetwork(Embedded):
    """An ONNX model with one image as its input."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self._session: Any = None

    def ready(self) -> None:
        """Open a session.

        Raises
        ------
        ModelError
            If ONNX Runtime is not installed, or the model can not be run.
        """
        if self._session is None:
            self._session = open_session(self.program(), self.card.name)

    def run(self, image: torch.Tensor) -> torch.Tensor:
        """Run the model on the CPU, wherever the image is."""
        name = self._session.get_inputs()[0].name
        try:
            results = self._session.run(None, {name: image.cpu().numpy()})
        except Exception as error:  # its errors have no base class of their own
            if any(words in str(error).lower() for words in _NO_MEMORY):
                raise MemoryError(_first_line(error)) from error  # smaller tiles may do
            raise ModelError(
                f"ONNX Runtime could not run {self.card.name!r} on a tile of "
                f"{tuple(image.shape)}: {_first_line(error)}. Try another tile size, or import "
                "the model anew."
            ) from error
        return torch.from_numpy(self.chosen(results)).float().to(image.device)


def build(card: ModelCard) -> OnnxNetwork:
    """Build the module that ``card`` describes; its program comes with the weights."""
    return OnnxNetwork(card)


def open_session(program: bytes, name: str) -> Any:
    """Open an ONNX model that stands on its own.

    Parameters
    ----------
    program : bytes
    name : str
        What to call it in messages.

    Returns
    -------
    onnxruntime.InferenceSession
        On the CPU, with as many threads as torch uses.

    Raises
    ------
    ModelError
        If ONNX Runtime is not installed, the model is damaged, refers to other files or
        foreign operators, or takes anything but one image of float32.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(f"{name!r} is an ONNX model; ONNX Runtime runs it. {INSTALL}") from None
    check_alone(program, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            program, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors have no base class of their own
        raise ModelError(
            f"ONNX Runtime can not open the model in {name!r}: {_first_line(error)}. Update ONNX "
            "Runtime, or get the model again."
        ) from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        kinds = ", ".join(f"{i.name} ({i.type})" for i in inputs)
        raise ModelError(
            f"The ONNX model in {name!r} takes {kinds}, not one image of float32. Export it again "
            "with that as its only input."
        )
    return session


def read_graph(program: bytes, name: str) -> Any:
    """Parse an ONNX model.

    Raises
    ------
    ModelError
        If it is none, or the package onnx is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ModelError(f"{name!r} is an ONNX model; onnx reads it. {INSTALL}") from None
    try:
        model = onnx.load_model_from_string(program)
    except (DecodeError, ValueError):
        raise ModelError(
            f"What {name!r} holds is not an ONNX model, or it is damaged. Get it again."
        ) from None
    if not model.graph.node:
        raise ModelError(f"The ONNX model in {name!r} is empty. Get it again.")
    return model


def check_alone(program: bytes, name: str) -> None:
    """Refuse a model that reads other files or needs foreign operators.

    Raises
    ------
    ModelError
    """
    import onnx

    model = read_graph(program, name)
    training = (g for info in model.training_info for g in (info.initialization, info.algorithm))
    graphs = [model.graph, *model.functions, *training]
    for tensor in (tensor for graph in graphs for tensor in _tensors(graph)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"The ONNX model in {name!r} reads its weights from another file "
                f"({tensor.name!r}). Only models in one piece are run; save it as one file."
            )
    foreign = {n.domain for g in graphs for n in _nodes(g)} - _DOMAINS
    foreign -= {function.domain for function in model.functions}
    if foreign:
        raise ModelError(
            f"The ONNX model in {name!r} uses operators of {', '.join(sorted(foreign))}, which "
            "are not part of ONNX. It can not be run; export it again without them."
        )


def parameter_count(program: bytes, name: str) -> int:
    """Return how many numbers the weights of a model are.

    Raises
    ------
    ModelError
    """
    graph = read_graph(program, name).graph
    return sum(_size(tensor.dims) for tensor in graph.initializer)


def opset_of(program: bytes, name: str) -> int:
    """Return the version of the operators of a model.

    Raises
    ------
    ModelError
    """
    imports = read_graph(program, name).opset_import
    return max((int(i.version) for i in imports if i.domain in ("", "ai.onnx")), default=1)


def _size(dims: Any) -> int:
    count = 1
    for length in dims:
        count *= int(length)
    return count


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph (or function), and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield all tensors that are written into a graph (or function), however deep."""
    yield from getattr(graph, "initializer", ())  # functions have none
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
