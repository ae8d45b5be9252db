"""How probabilities become objects: the method and its options, as one value."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from unet_studio.gui.options_form import OptionsForm
from unet_studio.models.card import ModelCard
from unet_studio.objects.methods import METHODS, options_class, parse_options, suitable_methods
from unet_studio.recipe import ObjectsMethod

_TITLES = {
    "threshold": "Foreground mask",
    "argmax": "Likeliest class",
    "components": "Connected components",
    "watershed": "Seeded watershed",
}


class ObjectsForm(QWidget):
    """Edits an :class:`~unet_studio.recipe.ObjectsMethod`.

    The box ``live`` beside it is not part of the value: it asks for live preview.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._card: ModelCard | None = None
        self._method = QComboBox()
        self._method.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._method.setMinimumContentsLength(10)
        self._method.setToolTip(
            "How the network's probabilities become labels. Only methods that suit the model "
            "are listed."
        )
        self.live = QCheckBox()
        self.live.setToolTip(
            "After a run, make the objects again whenever an option changes. The network does "
            "not run again."
        )
        self._options = OptionsForm(("Method", self._method), ("Live preview", self.live))
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._options)
        self._method.currentIndexChanged.connect(self._on_method)
        self._options.changed.connect(self.changed)

    def set_card(self, card: ModelCard) -> None:
        """Offer what suits a model, and show the model's own choice.

        Options the user has changed are kept if the model works the same way.
        """
        previous, self._card = self._card, card
        if previous is not None and (previous.representation, previous.default_objects) == (
            card.representation,
            card.default_objects,
        ):
            return
        blocked = self._method.blockSignals(True)
        self._method.clear()
        for name in suitable_methods(card.representation):
            self._method.addItem(_TITLES.get(name, name.replace("_", " ").capitalize()), name)
        self._method.blockSignals(blocked)
        self.set_value(card.default_objects)

    def value(self) -> ObjectsMethod:
        """Return the method with all of its options."""
        return ObjectsMethod(
            method=self._method.currentData(), options=self._options.value().model_dump()
        )

    def set_value(self, method: ObjectsMethod) -> None:
        """Show a method; ``changed`` is emitted once."""
        blocked = self._method.blockSignals(True)
        self._method.setCurrentIndex(max(0, self._method.findData(method.method)))
        self._method.blockSignals(blocked)
        self._options.set_value(parse_options(method))

    def makes_objects(self) -> bool:
        """Whether the chosen method gives each object its own id."""
        return METHODS.load(self._method.currentData()).makes_objects

    def options_form(self) -> OptionsForm:
        """Return the form of the options."""
        return self._options

    def _on_method(self, _index: int) -> None:
        self._options.set_model(options_class(self._method.currentData()))
