"""What the network gives notice of is told when it arises, whatever becomes of the task."""

from __future__ import annotations

import json

import pytest
from qtpy.QtCore import Qt

from unet_studio.errors import ImageError

SHIFT = Qt.KeyboardModifier.ShiftModifier
BLOB = (40, 30)
WHY = "The GPU is busy; the CPU is used instead."


def test_a_notice_of_a_click_that_fails_comes_with_its_error(
    hand, two_discs, monkeypatch, notifications
):
    image = hand.viewer.add_image(two_discs(), name="cells")
    hand.start()
    session = hand.clicking.source._session

    def click(position, positive=True):
        session.network.notices.append(WHY)
        raise ImageError("These pixels can not be read.")

    with monkeypatch.context() as patch:
        patch.setattr(session, "click", click)
        said = hand.click(image, BLOB)
    assert "can not be read" in said
    assert WHY in said
    assert [text for _, text in notifications() if WHY in text] == [WHY]
    assert WHY not in hand.click(image, BLOB), "told once"
    session.network.notices.clear()


def test_a_notice_of_a_session_that_can_not_be_opened_is_told(
    hand, two_discs, monkeypatch, notifications, tmp_path
):
    from unet_studio.clicks.session import ClickSession
    from unet_studio.inference import devices

    hand.viewer.add_image(two_discs(), name="cells")
    earlier = ClickSession(two_discs(), device="cpu")
    earlier.click(BLOB)
    journal = tmp_path / "mine.jsonl"
    lines = [json.loads(line) for line in earlier.journal.splitlines()]
    lines[0]["sha256"] = "another model"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(devices, "likely_device", lambda _: "cuda:99")
    hand.tab.start(journal)
    said = hand.wait()
    assert hand.clicking is None
    assert "another sha256" in said
    assert "cuda:99 is not available" in said
    assert len([t for _, t in notifications() if t.startswith("The GPU") or "cuda:99" in t]) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_failure_of_another_task_leaves_a_propagation_its_cancel_button(
    hand, two_discs, monkeypatch, fails
):
    stack = two_discs((6, 96, 104))
    image = hand.viewer.add_image(stack, name="stack", axis_labels=("z", "y", "x"))
    hand.viewer.dims.set_current_step(0, 2)
    hand.start()
    hand.click(image, (2, *BLOB))
    session = hand.clicking.source._session
    seen = []

    def reset():
        if fails:
            raise ImageError("These pixels can not be read.")

    with monkeypatch.context() as patch:
        patch.setattr(session, "reset", reset)
        hand.clicking.told.connect(lambda *_: seen.append(hand.clicking.propagating))
        hand.clicking.actions.reset()
        hand.clicking.actions.propagate(None, 1)
        hand.wait()
    assert seen[0] is True, "it waits its turn"
    assert hand.clicking.propagating is False


def test_a_journal_that_can_not_be_kept_is_told_and_clicks_go_on(hand, two_discs, notifications):
    from unet_studio.gui.click_journal import journals_folder

    folder = journals_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("not a folder")
    image = hand.viewer.add_image(two_discs(), name="cells")
    hand.start()
    said = hand.click(image, BLOB)
    assert "px" in said
    assert "The journal can not be kept" in said
    assert "Save journal" in said
    assert "journal" not in hand.click(image, (52, 74))
    assert len([t for _, t in notifications() if "journal" in t]) == 1
