"""Closing the window, and thinking better of it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDialog


class ClientMessage(ctypes.Structure):
    """XClientMessageEvent of Xlib, as long as the union that it is part of."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("rest", ctypes.c_long * 12),
    )


def press_x(window):
    """Ask a window to close as the X of its frame does: Qt's own ``close()`` is another matter."""
    if QApplication.platformName() != "xcb":
        pytest.skip("speaks to X11 only")
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = x11.XInternAtom.restype = ctypes.c_void_p
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    protocols, delete = (
        x11.XInternAtom(display, name, False) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
    )
    message = ClientMessage(type=33, window=int(window.winId()), message_type=protocols, format=32)
    message.data[0] = delete
    x11.XSendEvent(display, message.window, False, 0, ctypes.byref(message))
    x11.XCloseDisplay(display)


@pytest.fixture
def question(monkeypatch):
    """napari's question whether to close: ``question.answer``, and how often it was asked."""
    from napari._qt import qt_main_window
    from napari.settings import get_settings

    class Question(QDialog):
        asked, answer = 0, QDialog.DialogCode.Rejected

        def __init__(self, *_args, **_keywords):
            super().__init__()

        def exec_(self):
            Question.asked += 1
            return Question.answer

    monkeypatch.setattr(qt_main_window, "ConfirmCloseDialog", Question)
    monkeypatch.setattr(get_settings().application, "confirm_close_window", True)
    return Question


def test_cancel_in_naparis_question_stops_nothing_and_close_stops_all(
    open_studio, question, qtbot
):
    viewer, studio = open_studio(show=True)
    viewer.add_image(np.zeros((96, 104), np.uint8), name="cells")
    studio.tabs.setCurrentIndex(1)
    tab = studio.tab
    tab.run_button.click()
    assert tab.clicking is not None
    layers, window = len(viewer.layers), studio.window()
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    press_x(window)
    qtbot.waitUntil(lambda: question.asked == 1, timeout=5000)
    qtbot.wait(50)
    assert window.isVisible()
    assert tab.clicking is not None
    assert len(viewer.layers) == layers > 1
    desk = tab.clicking.desk
    question.answer = QDialog.DialogCode.Accepted
    press_x(window)
    qtbot.waitUntil(lambda: question.asked == 2, timeout=5000)
    assert tab.clicking is None
    assert not desk.busy
