"""The click network: encoded crops in, probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import ModelError
from unet_studio.models.click_input import ClickInput

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unet_studio.models.model import Model


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
        self._move_to(found)

    @property
    def device(self) -> str:
        """Where it runs now."""
        return str(self._device)

    def _move_to(self, device: torch.device) -> None:
        from unet_studio.inference.precision import prepare

        self._device = device
        self._network: Any = prepare(self.model.network, self.model.card, device, "float32")

    def __call__(self, crops: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the probability that each pixel belongs to the object.

        Parameters
        ----------
        crops : sequence of array of float32, axes (6, edge, edge)

        Returns
        -------
        list of array of float32, axes (edge, edge), range [0, 1]
        """
        import torch

        from unet_studio.inference.devices import lacking

        batch = torch.from_numpy(np.stack(crops))
        try:
            return self._forward(batch)
        except NotImplementedError as error:
            words = lacking(error, self._device)
            if words is None:
                raise
            self.notices.append(
                f"The {self._device} can not run this network ({words}); the CPU is used instead."
            )
        self._move_to(torch.device("cpu"))
        return self._forward(batch)

    def _forward(self, batch: torch.Tensor) -> list[NDArray[np.float32]]:
        import torch

        from unet_studio.inference.precision import full_precision

        batch = batch.to(self._device).to(memory_format=torch.channels_last)
        with torch.inference_mode(), full_precision():
            logits = self._network(batch)
            if self.model.card.output == "logits":
                logits = logits.sigmoid()
            found = torch.nan_to_num(logits[:, 0].float()).cpu().numpy()
        return list(found)
