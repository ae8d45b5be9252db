"""Marks of other slices, marks that are moved, and layers that go at once."""

from __future__ import annotations

import numpy as np

BLOB, OTHER = (40, 30), (52, 74)


def test_a_mark_of_another_slice_is_not_hit(hand, two_discs):
    image = hand.viewer.add_image(
        two_discs((5, 96, 104)), name="stack", axis_labels=("z", "y", "x")
    )
    hand.viewer.dims.set_current_step(0, 2)
    hand.start()
    hand.click(image, (2, *BLOB))
    hand.viewer.dims.set_current_step(0, 3)
    hand.click(image, (3, *BLOB))
    assert {mark.position[0] for mark in hand.clicking.layers.marks} == {2.0, 3.0}


def test_a_negative_mark_that_is_moved_stays_negative(hand, two_discs):
    image = hand.viewer.add_image(two_discs(), name="cells")
    hand.start()
    hand.click(image, BLOB)
    hand.clicking.actions.click((70.0, 50.0), positive=False)
    hand.wait()
    prompts = hand.clicking.layers.prompts
    moved = np.array(prompts.data)
    moved[[m.positive for m in hand.clicking.layers.marks].index(False)] = (20.0, 60.0)
    prompts.data = moved
    prompts.events.data(value=moved, action="changed", data_indices=(1,), vertex_indices=((),))
    hand.qtbot.wait(20)
    hand.wait()
    assert [m.positive for m in hand.clicking.layers.marks] == [True, False]


def test_all_layers_may_go_at_once(hand, two_discs):
    image = hand.viewer.add_image(two_discs(), name="cells")
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    hand.viewer.layers.select_all()
    hand.viewer.layers.remove_selected()
    assert not len(hand.viewer.layers)
    again = hand.viewer.add_image(two_discs(), name="cells")
    hand.start()
    hand.click(again, BLOB)
    hand.viewer.layers.clear()
    assert not len(hand.viewer.layers)
