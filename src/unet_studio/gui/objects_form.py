"""How probabilities become objects: the method and its options, as one value."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from unet_studio.gui.choice_box import check_box
from unet_studio.gui.options_form import (
    OptionsForm,
    changed_signal,
    editors_for,
    read,
    write_silently,
)
from unet_studio.models.card import ModelCard
from unet_studio.objects.methods import METHODS, options_class, parse_options, suitable_methods
from unet_studio.recipe import Linking, ObjectsMethod

_TITLES = {
    "threshold": "Foreground mask",
    "argmax": "Likeliest class",
    "components": "Connected components",
    "watershed": "Seeded watershed",
}

_LIVE_TIP = (
    "After a run, make the objects again whenever an option changes. The network does not run "
    "again."
)


class ObjectsForm(QWidget):
    """Edits an :class:`~unet_studio.recipe.ObjectsMethod`.

    The box ``link`` asks for linking, and is there for time series only. The box
    ``live`` is not part of the value: it asks for live preview.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._card: ModelCard | None = None
        self._timed = False
        self._method = QComboBox()
        self._method.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._method.setMinimumContentsLength(10)
        self._method.setToolTip(
            "How the network's probabilities become labels. Only methods that suit the model "
            "are listed."
        )
        self.live = check_box("Live preview", _LIVE_TIP)
        self.link = check_box(
            "Link objects through time",
            "Give an object the same number in all frames in which it is found, by overlap from "
            "frame to frame. Divisions and merges are noted in the layer's features.",
        )
        self._linking = editors_for(Linking)
        self._options = OptionsForm(
            ("Method", self._method),
            ("Link through time", self.link),
            *((editor.accessibleName(), editor) for editor in self._linking.values()),
            ("Live preview", self.live),
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._options)
        self._method.currentIndexChanged.connect(self._on_method)
        self._options.changed.connect(self.changed)
        self.link.toggled.connect(self._on_link)
        for editor in self._linking.values():
            changed_signal(editor).connect(self._emit)
        self._show_link_rows()

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
        own = card.default_objects
        # Linking belongs to the movie more than to the model: what the user asked for stays.
        link = self._link_value() if self.link.isChecked() else own.link
        self.set_value(own.model_copy(update={"link": link}))

    def set_timed(self, timed: bool) -> None:
        """Offer linking if the chosen image has a time axis. ``changed`` is not emitted."""
        self._timed = timed
        self._show_link_rows()

    def set_live_possible(self, why_not: str) -> None:
        """Switch live preview off for a reason, or give it back for none (an empty text)."""
        self.live.setEnabled(not why_not)
        self.live.setToolTip(why_not or _LIVE_TIP)

    def value(self) -> ObjectsMethod:
        """Return the method with all of its options."""
        return ObjectsMethod(
            method=self._method.currentData(),
            options=self._options.value().model_dump(),
            link=self._link_value() if self._offers_link() and self.link.isChecked() else None,
        )

    def set_value(self, method: ObjectsMethod) -> None:
        """Show a method; ``changed`` is emitted once."""
        blocked = self._method.blockSignals(True)
        self._method.setCurrentIndex(max(0, self._method.findData(method.method)))
        self._method.blockSignals(blocked)
        write_silently(self.link, method.link is not None)
        for name, editor in self._linking.items():
            if method.link is not None:
                write_silently(editor, getattr(method.link, name))
        self._show_link_rows()
        self._options.set_value(parse_options(method))

    def makes_objects(self) -> bool:
        """Whether the chosen method gives each object its own id."""
        return METHODS.load(self._method.currentData()).makes_objects

    def options_form(self) -> OptionsForm:
        """Return the form of the options."""
        return self._options

    def link_editor(self, name: str) -> QWidget:
        """Return the editor of a field of :class:`~unet_studio.recipe.Linking`."""
        return self._linking[name]

    def _link_value(self) -> Linking:
        return Linking(**{name: read(editor) for name, editor in self._linking.items()})

    def _offers_link(self) -> bool:
        return self._timed and self._method.currentData() is not None and self.makes_objects()

    def _show_link_rows(self) -> None:
        offered = self._offers_link()
        self._options.show_row(self.link, offered)
        for editor in self._linking.values():
            self._options.show_row(editor, offered and self.link.isChecked())

    def _on_link(self, _checked: bool) -> None:
        self._show_link_rows()
        self.changed.emit()

    def _emit(self, _value: object = None) -> None:
        self.changed.emit()

    def _on_method(self, _index: int) -> None:
        self._show_link_rows()
        self._options.set_model(options_class(self._method.currentData()))
