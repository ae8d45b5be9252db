"""Objects linked through time, from the Segment tab."""

from __future__ import annotations

import numpy as np
import pytest


def film(frames=4):
    """Three bright discs; one drifts, one is missing in frame 1, one divides at the end."""
    rows, columns = np.indices((64, 80))
    movie = np.zeros((frames, 64, 80), np.uint8)
    for t, image in enumerate(movie):
        image[(rows - 14) ** 2 + (columns - 20 - 4 * t) ** 2 < 64] = 200
        if t != 1:
            image[(rows - 46) ** 2 + (columns - 16) ** 2 < 64] = 200
        for centre in (60,) if t < frames - 1 else (54, 66):
            radius = 8 if t < frames - 1 else 5
            image[(rows - 46) ** 2 + (columns - centre) ** 2 < radius**2] = 200
    return movie


@pytest.fixture
def movie_studio(open_studio, engine):
    viewer, studio = open_studio()
    viewer.add_image(film(), name="film", axis_labels=("t", "y", "x"))
    studio.tab.update_forecast()
    return viewer, studio


def test_the_box_is_there_for_movies_only(open_studio, blob_image):
    viewer, studio = open_studio()
    objects = studio.tab.objects
    assert not objects.link.isVisibleTo(studio)
    viewer.add_image(film(), name="film", axis_labels=("t", "y", "x"))
    studio.tab.update_forecast()
    assert objects.link.isVisibleTo(studio)
    assert not objects.link_editor("max_gap").isVisibleTo(studio)
    objects.link.setChecked(True)
    assert objects.link_editor("max_gap").isVisibleTo(studio)
    assert objects.value().link is not None
    viewer.add_image(blob_image(), name="still")
    studio.tab.update_forecast()
    assert not objects.link.isVisibleTo(studio)
    assert not objects.link_editor("max_gap").isVisibleTo(studio)
    assert objects.value().link is None


def test_the_question_of_axes_decides(open_studio):
    viewer, studio = open_studio()
    viewer.add_image(film(), name="stack or film")
    tab = studio.tab
    for axes, offered in (("TYX", True), ("ZYX", False), ("TYX", True)):
        tab.input.axes_box.setCurrentIndex(tab.input.axes_box.findData(axes))
        tab.update_forecast()
        assert tab.objects.link.isVisibleTo(studio) is offered


def test_masks_are_not_linked(movie_studio):
    _, studio = movie_studio
    objects = studio.tab.objects
    objects.link.setChecked(True)
    objects._method.setCurrentIndex(objects._method.findData("threshold"))
    assert not objects.link.isVisibleTo(studio)
    assert objects.value().link is None
    objects._method.setCurrentIndex(objects._method.findData("components"))
    assert objects.value().link is not None


def test_a_run_links_and_live_preview_follows(movie_studio, run, engine, qtbot):
    viewer, studio = movie_studio
    objects = studio.tab.objects
    objects._method.setCurrentIndex(objects._method.findData("components"))
    run(studio)
    labels = viewer.layers[-1]
    assert labels.data.max() == 3 + 2 + 3 + 4
    assert list(labels.features["frame"]) == [0] * 3 + [1] * 2 + [2] * 3 + [3] * 4

    objects.link.setChecked(True)
    qtbot.waitUntil(lambda: labels.data.max() == 6, timeout=5_000)
    drifting = [int(labels.data[t, 14, 20 + 4 * t]) for t in range(4)]
    assert drifting == [1] * 4
    assert list(labels.features["index"]) == [1, 2, 3, 4, 5, 6]
    assert list(labels.features["last_frame"]) == [3, 0, 2, 3, 3, 3]
    assert sorted(labels.features["parent"]) == [0, 0, 0, 0, 3, 3]
    assert (labels.features["mean_area"] > 0).all()
    assert "6 objects" in studio.tab.summary.text()
    assert "1 split" in studio.tab.summary.text()
    record = labels.metadata["unet_studio"]
    assert record["recipe"]["objects"]["link"] == {"min_overlap": 0.3, "max_gap": 0}
    assert record["objects"]["tracks"]["ends"] == 1

    objects.link_editor("max_gap").setValue(1)
    qtbot.waitUntil(lambda: labels.data.max() == 5, timeout=5_000)
    assert labels.metadata["unet_studio"]["objects"]["tracks"]["bridged_frames"] == 1
    objects.link.setChecked(False)
    qtbot.waitUntil(lambda: labels.data.max() == 12, timeout=5_000)
    assert "frame" in labels.features
    assert engine.calls == 1
    assert len(viewer.layers) == 2


def test_a_run_with_the_box_ticked_is_linked_from_the_start(movie_studio, run, notifications):
    viewer, studio = movie_studio
    studio.tab.objects.link.setChecked(True)
    run(studio)
    made = viewer.layers[-1].metadata["unet_studio"]["objects"]
    assert made["tracks"]["tracks"] == made["count"] == viewer.layers[-1].data.max()
    assert not notifications()


def test_another_model_of_the_same_kind_keeps_the_choice(movie_studio):
    _, studio = movie_studio
    studio.tab.objects.link.setChecked(True)
    studio.tab.objects.link_editor("max_gap").setValue(3)
    studio.header.select("nuclei")
    studio.tab.update_forecast()
    assert studio.tab.objects.value().link.max_gap == 3
