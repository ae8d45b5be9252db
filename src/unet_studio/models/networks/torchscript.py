"""TorchScript models: programs, which are opened only with the user's consent.

TorchScript can read and write files and reach into torch's native code. A model of this
kind is as trustworthy as its maker, and is run only if the user has said so for exactly
these bytes (:mod:`unet_studio.models.consent`).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch

from unet_studio.errors import ModelError
from unet_studio.models.consent import require_consent
from unet_studio.models.networks.embedded import Embedded

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard


class TorchScriptNetwork(Embedded):
    """A TorchScript module with one image as its input."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        # In a list, so that it is no submodule: its weights are in the program already.
        self._opened: list[Any] = []

    def ready(self) -> None:
        """Open the program.

        Raises
        ------
        ModelError
            Without consent for these bytes, or if they are no TorchScript.
        """
        if self._opened:
            return
        program = self.program()
        require_consent(program, self.card.name)
        try:
            module = torch.jit.load(io.BytesIO(program), map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
            raise ModelError(
                f"The TorchScript in {self.card.name!r} can not be opened: {said}. Get it again."
            ) from None
        self._opened.append(module.eval())

    def run(self, image: torch.Tensor) -> torch.Tensor:
        """Run the program where the image is."""
        module = self._opened[0].to(image.device)
        result = module(image)
        if isinstance(result, list | tuple):
            result = self.chosen(result)
        if not isinstance(result, torch.Tensor):
            raise ModelError(
                f"The TorchScript in {self.card.name!r} returned no image. Trace it again so that "
                "it returns one tensor, and import that."
            )
        return result


def build(card: ModelCard) -> TorchScriptNetwork:
    """Build the module that ``card`` describes; its program comes with the weights."""
    return TorchScriptNetwork(card)
