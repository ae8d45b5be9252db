"""The optional back end for CPUs: OpenVINO runs what torch has loaded.

A network is traced on a small image, converted, and kept in the user's cache
folder under a hash of its weights and of all versions; converting takes about a
second, reading back a tenth. It is compiled for each shape of tile.

In integers of 8 bits it is kept apart (:mod:`unet_studio.inference.eight_bits`).

The conversion calls OpenVINO's frontend for PyTorch by itself and not
``openvino.convert_model``, which reports each use to its makers over the network, as
its import would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch

from unet_studio.errors import BackendError, UNetStudioError
from unet_studio.inference.eight_bits import eight_bits
from unet_studio.inference.fingerprint import digest_of
from unet_studio.inference.graphs import keep_graph, kept_graph
from unet_studio.inference.out_of_memory import is_out_of_memory
from unet_studio.inference.precision import prepare
from unet_studio.inference.silent_openvino import import_openvino, openvino_core
from unet_studio.versions import version_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unet_studio.models.model import Model

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}
_POLL_MS = 50
_KEPT_SHAPES = 2  # compiled; each holds memory for its activations
_converting = RLock()  # integers are made of what is converted first


def runs_in(precision: str) -> bool:
    """Whether the processor computes in a precision, as OpenVINO sees it."""
    found = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return _CAPABILITIES[precision] in found


class OpenVinoNetwork:
    """A network that takes and gives torch tensors, and runs in OpenVINO.

    Parameters
    ----------
    model : Model
        Left as it is.
    precision : {"float32", "bfloat16", "float16", "int8"}
    check : callable
        Called about 20 times a second while the network runs. What it raises stops it
        before its next layer.

    Raises
    ------
    BackendError
        If OpenVINO can not run the network, or not in that precision.
    """

    def __init__(
        self, model: Model, precision: str, check: Callable[[], None] = lambda: None
    ) -> None:
        if not runs_in(precision):
            raise BackendError(
                f"OpenVINO does not compute in {precision} on this processor. Use float32 or "
                "auto, or the back end torch."
            )
        self._check = check
        self._name = model.card.name
        self._graph = converted(model, precision, check)
        self._settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Pinned threads would share two cores of many with whatever else is pinned.
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of float32, axes (N, C, [Z,] Y, X).

        Raises
        ------
        BackendError
            If OpenVINO fails for anything but want of memory.
        """
        openvino = import_openvino()

        image = openvino.Tensor(tensor.contiguous().numpy(), shared_memory=True)
        with _explained(self._name):
            request = self._request(tuple(tensor.shape))
            request.start_async({0: image})
        try:
            with _explained(self._name):
                while not request.wait_for(_POLL_MS):
                    self._check()
        except BaseException:
            self._requests.clear()
            _stop(request)
            raise
        # Copied: the next run of the request fills the same memory.
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    def _request(self, shape: tuple[int, ...]) -> Any:
        openvino = import_openvino()

        request = self._requests.pop(shape, None)
        if request is None:
            while len(self._requests) >= _KEPT_SHAPES:
                del self._requests[next(iter(self._requests))]
            self._graph.reshape(openvino.PartialShape(list(shape)))
            compiled = openvino_core().compile_model(self._graph, "CPU", self._settings)
            request = compiled.create_infer_request()
        self._requests[shape] = request  # the last used is last
        return request


def converted(
    model: Model, precision: str = "float32", check: Callable[[], None] = lambda: None
) -> Any:
    """Return a model's network as an OpenVINO graph of any image size, from the cache if it can.

    Parameters
    ----------
    model : Model
    precision : str
        "int8" gives one in integers; all others the one in float32.
    check : callable
        Called 20 times a second while the network is turned into integers, which takes
        several seconds.

    Raises
    ------
    BackendError
        If it can not be converted.
    """
    name = digest_of(model)
    if precision == "int8":
        name += f"-int8-{version_of('nncf')}"
    if (graph := kept_graph(model.network, name)) is not None:
        return graph
    with _turn(check):
        graph = kept_graph(model.network, name)  # another thread may have made it meanwhile
        if graph is None:
            graph = _made(model, precision, check)
            keep_graph(model.network, name, graph)
    return graph


def _made(model: Model, precision: str, check: Callable[[], None]) -> Any:
    card = model.card
    if precision != "int8":
        with _explained(card.name):
            return _convert(model)
    whole = converted(model, check=check)
    with _explained(card.name):
        return eight_bits(whole, card.name, card.in_channels, card.strides, check)


@contextmanager
def _turn(check: Callable[[], None]) -> Iterator[None]:
    """Let one thread at a time convert a network: two would do the same work twice."""
    while not _converting.acquire(timeout=_POLL_MS / 1000):
        check()
    try:
        yield
    finally:
        _converting.release()


def _convert(model: Model) -> Any:
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    card = model.card
    network = prepare(model.network, card, torch.device("cpu"), "float32", fused=False)
    example = torch.rand(1, card.in_channels, *[2 * stride for stride in card.strides])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's, that tracing will go one day
        decoder = TorchScriptPythonDecoder(
            network,
            example_input=example,
            shared_memory=False,
            trace_kwargs={"check_trace": False},
        )
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def _stop(request: Any) -> None:
    """Stop a running request, and wait until it has let go of its input."""
    try:
        request.cancel()
        request.wait()
    except RuntimeError:
        pass  # that is how it says that it was stopped


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn OpenVINO's errors into ours, but for those of memory."""
    try:
        yield
    except Exception as error:  # its own are of several kinds, with no base in common
        if isinstance(error, UNetStudioError) or is_out_of_memory(error):
            raise
        # Of what torch said while it was traced, only that; of a failed check its last line.
        said = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise BackendError(
            f"OpenVINO can not run the model {name!r} ({said[-1][:200]}). Use the back end torch."
        ) from error
