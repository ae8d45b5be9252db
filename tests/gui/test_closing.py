"""Closing the window, and thinking better of it."""

from __future__ import annotations

import numpy as np
from qtpy.QtWidgets import QDialog


def test_cancel_in_naparis_question_stops_nothing(hand, monkeypatch):
    from napari._qt import qt_main_window
    from napari.settings import get_settings

    asked = []

    class Question(QDialog):
        def __init__(self, *_args, **_keywords):
            super().__init__()

        def exec_(self):
            asked.append(True)
            return QDialog.DialogCode.Rejected

    monkeypatch.setattr(qt_main_window, "ConfirmCloseDialog", Question)
    monkeypatch.setattr(get_settings().application, "confirm_close_window", True)
    hand.viewer.add_image(np.zeros((96, 104), np.uint8), name="cells")
    hand.start()
    window = hand.studio.window()
    window.windowHandle().close()  # as the X does
    hand.qtbot.waitUntil(lambda: bool(asked), timeout=5000)
    assert window.isVisible()
    assert hand.clicking is not None
    assert len(hand.viewer.layers) > 1
