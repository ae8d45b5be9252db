"""Work in steps, carried to its end."""

from __future__ import annotations


def drained(steps, at=None):
    """Return all events and the result; ``at(event)`` is called after each."""
    events = []
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return events, end.value
        events.append(event)
        if at is not None:
            at(event)
