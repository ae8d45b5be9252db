"""The button that saves what a tab is set up to do as a recipe file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from unet_studio.errors import UNetStudioError
from unet_studio.gui.messages import notify_error

if TYPE_CHECKING:
    from pathlib import Path

    from unet_studio.gui.model_header import ModelHeader
    from unet_studio.recipe import Recipe


def as_set_up(header: ModelHeader) -> Callable[[], Recipe | None]:
    """Return what tells the recipe that the Segment tab is set up to, with the model of now.

    A model that is being refined is that model: its newest version, once it was taken.
    """

    def recipe() -> Recipe | None:
        return None if header.recipe is None else header.recipe()

    return recipe


class SaveRecipeButton(QPushButton):
    """Saves the recipe that ``recipe`` returns (None if there is none yet)."""

    def __init__(self, recipe: Callable[[], Recipe | None], parent: QWidget | None = None) -> None:
        super().__init__("Save recipe …", parent)
        self._recipe = recipe
        self.setToolTip(
            "Save these settings as a text file (TOML), for the Batch tab and for "
            "'unet-studio batch' on the command line."
        )
        self.clicked.connect(self.ask)

    def ask(self) -> None:
        """Ask for a place, and save there."""
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the recipe", "recipe.toml", "Recipes (*.toml)"
        )
        if path:
            self.save(path if path.endswith(".toml") else f"{path}.toml")

    def save(self, path: str | Path) -> None:
        """Save, or say why it can not be."""
        from unet_studio.batch.recipe_file import save_recipe

        try:
            recipe = self._recipe()
            if recipe is None:
                notify_error("There is no recipe yet: choose a model first.")
                return
            save_recipe(recipe, path)
        except UNetStudioError as error:
            notify_error(str(error))
            return
        from napari.utils.notifications import show_info

        show_info(f"The recipe is in {path}.")
