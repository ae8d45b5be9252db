"""Undo and redo: what was done, and what was taken back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from unet_studio.clicks.commit import Edit, renew, revert
from unet_studio.clicks.objects import Step

_REMEMBERED = 5


@dataclass
class History:
    """Steps done and steps taken back, newest last."""

    done: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Note a step; what was taken back before can not be done again then."""
        self.done.append(step)
        self.undone.clear()

    def moved(self, old: Any, new: Any) -> None:
        """Let the steps that wrote to an array write to another one: labels that grew."""
        for steps in (self.done, self.undone):
            steps[:] = [replace(s, target=new) if s.target is old else s for s in steps]

    def back(self) -> Step | None:
        """Take the newest step back, also out of labels that the session wrote to."""
        if not self.done:
            return None
        step = self.done.pop()
        if step.edit is not None and step.target is not None:
            revert(step.target, step.edit)
        self.undone.append(step)
        return step

    def again(self) -> Step | None:
        """Do the step again that was taken back last."""
        if not self.undone:
            return None
        step = self.undone.pop()
        if step.edit is not None and step.target is not None:
            renew(step.target, step.edit)
        self.done.append(step)
        return step

    def edits(self) -> list[Edit]:
        """Return what was done to labels and not taken back, oldest first."""
        return [step.edit for step in self.done if step.edit is not None]

    def usual_size(self) -> float | None:
        """Return the median longer side of the last objects committed, in pixels."""
        sizes = [edit.size for edit in self.edits() if edit.what == "commit" and edit.size]
        return float(median(sizes[-_REMEMBERED:])) if sizes else None
