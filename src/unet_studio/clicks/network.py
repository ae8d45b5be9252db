"""The click network: encoded crops in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import ModelError
from unet_studio.models.click_input import ClickInput

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unet_studio.models.model import Model

Result = TypeVar("Result")


class ClickNetwork:
    """A click model, ready to run in the form in which it is fastest.

    Parameters
    ----------
    model : str, Path or Model
        Name, path, weight source, or a loaded model.
    device : str
        "auto", "cpu", "cuda", "cuda:N" or "mps".

    Attributes
    ----------
    notices : list of str
        Why it runs on another device than was asked for.

    Raises
    ------
    ModelError
        If there is no such model, or it does not answer clicks.
    """

    def __init__(self, model: str | Path | Model, device: str = "auto") -> None:
        from unet_studio.inference.devices import open_devices
        from unet_studio.models.model import load_model

        self.model = load_model(model)
        card = self.model.card
        if card.clicks is None:
            raise ModelError(
                f"The model {card.name!r} does not answer clicks. Choose one that does, such as "
                "'clicks'; to take this model's objects by clicking, use "
                "ClickSession.pick with its result."
            )
        self.spec: ClickInput = card.clicks
        (found, *_), notice = open_devices(device, 1)
        self.notices: list[str] = [notice] if notice else []
        self._device = found
        self._network: Any = None
        self._or_on_cpu(self._get_ready)

    @property
    def device(self) -> str:
        """Where it runs now."""
        return str(self._device)

    def __call__(self, crops: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the probability that each pixel belongs to the object.

        Where a GPU can not do it, for want of memory or of an operation, the CPU does it
        from then on. Crops are small: there would be nothing to gain by even smaller ones.

        Parameters
        ----------
        crops : sequence of array of float32, axes (6, edge, edge)

        Returns
        -------
        list of array of float32, axes (edge, edge), range [0, 1]
        """
        import torch

        batch = torch.from_numpy(np.stack(crops))
        return self._or_on_cpu(lambda: self._forward(batch))

    def _or_on_cpu(self, work: Callable[[], Result]) -> Result:
        """Do something on the device, or else on the CPU."""
        import torch

        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            why = _why_not_there(error, self._device)
            if why is None:
                raise
        # Outside of the except block: an exception holds the frames, and these the tensors.
        on_cuda = self._device.type == "cuda"
        self._device, self._network = torch.device("cpu"), None
        if on_cuda:
            torch.cuda.empty_cache()
        self.notices.append(f"{why}; the CPU is used instead.")
        return work()

    def _get_ready(self) -> None:
        from unet_studio.inference.precision import prepare

        if self._network is None:
            model = self.model
            self._network = prepare(model.network, model.card, self._device, "float32")

    def _forward(self, batch: torch.Tensor) -> list[NDArray[np.float32]]:
        import torch

        from unet_studio.inference.precision import full_precision

        self._get_ready()
        batch = batch.to(self._device).to(memory_format=torch.channels_last)
        with torch.inference_mode(), full_precision():
            logits = self._network(batch)
            if self.model.card.output == "logits":
                logits = logits.sigmoid()
            found = torch.nan_to_num(logits[:, 0].float()).cpu().numpy()
        return list(found)


def _why_not_there(error: BaseException, device: torch.device) -> str | None:
    """Return why a GPU can not do what a CPU can; None if an error says nothing of that."""
    from unet_studio.inference.devices import lacking
    from unet_studio.inference.out_of_memory import is_out_of_memory

    if device.type == "cpu":
        return None
    if is_out_of_memory(error):
        return f"The {device} ran out of memory"
    words = lacking(error, device)
    return None if words is None else f"The {device} can not run this network ({words})"
