"""Whether a model can learn from what was painted: asked before any work is done. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unet_studio.errors import AnnotationError
from unet_studio.training.annotations import BACKGROUND, Annotations

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard


def check_annotations(every: Sequence[Annotations], card: ModelCard) -> None:
    """Refuse annotations that a model can not learn from, before any work is done.

    Parameters
    ----------
    every : sequence of Annotations
        Of all images together.
    card : ModelCard

    Raises
    ------
    AnnotationError
        If nothing or one class only is annotated, or a class that the model lacks.
    """
    if not any(len(a) or a.complete for a in every):
        raise AnnotationError(
            "Nothing is annotated. Paint some background (1) and some of what is to be found (2 "
            "and up)."
        )
    found: set[int] = set()
    for one in every:
        values = {int(v) for v in np.unique(one.values)}
        if one.complete:
            values.add(BACKGROUND)
        if one.mode == "objects":
            if card.representation == "classes" and len(card.classes) > 2:
                raise AnnotationError(
                    f"The model {card.name!r} tells {len(card.classes)} classes apart; annotate "
                    "classes, not objects."
                )
            values = {min(v, 2) for v in values}
        found |= values
    names = class_names(card)
    if max(found) > len(names):
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(names, 1))
        raise AnnotationError(
            f"The annotations hold the number {max(found)}, but the model {card.name!r} knows: "
            f"{listed}. Repaint it, name the classes of a new model, or annotate objects."
        )
    if len(found) < 2:
        only = names[found.pop() - 1]
        raise AnnotationError(
            f"Only one class is annotated ({only}); a model learns from the difference. Paint "
            "some of another class, too."
        )


def class_names(card: ModelCard) -> tuple[str, ...]:
    """Return the names of the numbers 1, 2, … in class mode."""
    return card.classes if card.representation == "classes" else ("background", card.classes[0])
