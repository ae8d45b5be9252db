"""Refining from strokes to a model file: it learns, it can be repeated, stopped, compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from support.steps import drained
from unet_studio.errors import Cancelled, RecipeError
from unet_studio.events import CancelToken, Started, Trained
from unet_studio.images.volume import as_volume
from unet_studio.models.card import ModelCard
from unet_studio.models.files import read_card
from unet_studio.models.model import Model, build_network, load_model, save_model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict
from unet_studio.training import refine as refine_module
from unet_studio.training.annotations import annotate, annotations_on
from unet_studio.training.fit_settings import FitSettings
from unet_studio.training.refine import refine, refine_steps
from unet_studio.training.retarget import retarget

QUICK = {"crop": 48, "axes": "TYX"}


def dice(model, image, truth) -> float:
    found = predict(image, model, axes="TYX").probabilities[:, 0] > 0.5
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def weights(model) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def same(a, b) -> bool:
    return all(torch.equal(v, weights(b)[n]) for n, v in weights(a).items())


def test_a_few_strokes_teach_a_network_that_knew_nothing(pictures, taught):
    image, truth, painted = pictures
    assert (painted > 0).mean() < 0.05
    assert dice(taught.model, image, truth) > 0.85
    assert taught.verdict.finding == "better"
    assert taught.verdict.new > 0.9 > taught.verdict.old
    assert taught.verdict.regions >= 6
    assert taught.record["refined"]["steps"] == 30
    assert taught.curve[-1][0] == 30
    assert any(score is not None for _, _, score in taught.curve)


def test_a_refined_model_is_an_ordinary_model_file(taught, model_file, pictures):
    image, truth, painted = pictures
    loaded = load_model(str(model_file))
    assert same(loaded, taught.model)
    again = refine(image, painted, loaded, steps=3, name="second", **QUICK)
    path = model_file.with_name("second.safetensors")
    save_model(again.model, path)
    card = read_card(path)
    assert (card.name, card.parent) == ("second", loaded.sha256)
    assert card.training["refined"]["from"] == loaded.card.name
    assert card.training["refined"]["verdict"]["finding"] == again.verdict.finding
    assert dice(load_model(str(path)), image, truth) > 0.8


def test_the_base_is_left_as_it_is(model_file, pictures):
    image, _, painted = pictures
    base = load_model(str(model_file))
    before = {n: v.clone() for n, v in weights(base).items()}
    refined = refine(image, painted, base, steps=2, **QUICK)
    assert all(torch.equal(v, before[n]) for n, v in weights(base).items())
    assert not base.network.training
    assert not same(base, refined.model)


def test_a_seed_fixes_every_bit(model_file, pictures):
    image, _, painted = pictures
    first, second, other = (
        refine(image, painted, str(model_file), steps=4, seed=seed, **QUICK) for seed in (5, 5, 6)
    )
    assert same(first.model, second.model)
    assert first.curve == second.curve
    assert not same(first.model, other.model)


def test_batch_statistics_stay_while_weights_learn(model_file, pictures):
    image, _, painted = pictures
    base = load_model(str(model_file))
    refined = refine(image, painted, base, steps=3, **QUICK)
    for name, value in weights(base).items():
        if "running" in name:
            assert torch.equal(value, weights(refined.model)[name]), name


def test_the_encoder_learns_only_after_a_while(model_file, pictures):
    image, _, painted = pictures
    base = load_model(str(model_file))
    frozen = refine(image, painted, base, steps=3, frozen_share=1.0, **QUICK)
    for name, value in weights(base).items():
        if name.startswith("down.") and "num_batches" not in name:
            assert torch.equal(value, weights(frozen.model)[name]), name
    assert not torch.equal(weights(base)["head.weight"], weights(frozen.model)["head.weight"])
    thawed = refine(image, painted, base, steps=3, frozen_share=0.0, **QUICK)
    name = "down.0.0.weight"
    assert not torch.equal(weights(base)[name], weights(thawed.model)[name])


def steps_of(pictures, model, token=None, stop=None, latest=None, **settings):
    image, _, painted = pictures
    volume = as_volume(image, "TYX")
    chosen = FitSettings(**{"crop": 48, "steps": 50, **settings})
    return refine_steps(
        [(volume, annotations_on(volume, painted))],
        load_model(str(model)),
        chosen,
        token=token,
        stop=stop,
        latest=latest,
    )


def test_stop_keeps_the_best_and_judges_it(pictures, model_file):
    stop = CancelToken()

    def at(event):
        if isinstance(event, Trained) and event.step == 3:
            stop.cancel()

    events, refined = drained(steps_of(pictures, model_file, stop=stop), at)
    assert refined.record["refined"]["ended"] == "stopped"
    assert refined.record["refined"]["steps"] == 3
    assert refined.verdict.reason
    stages = [e.stage for e in events if isinstance(e, Started)]
    assert stages[0] == "measuring intensities"
    assert stages[-2:] == ["training", "comparing"]


def test_cancel_keeps_nothing(pictures, model_file):
    token = CancelToken()

    def at(event):
        if isinstance(event, Trained) and event.step == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        drained(steps_of(pictures, model_file, token=token), at)


def test_a_limit_of_time_is_kept(pictures, model_file):
    events, refined = drained(steps_of(pictures, model_file, steps=None, seconds=1.5))
    record = refined.record["refined"]
    # How many steps fit is the processor's matter, and of what else it has to do.
    assert record["planned"] >= record["steps"] >= 1
    assert record["seconds"] < 6  # a busy computer is slow, but it does end
    left = [e.seconds_left for e in events if isinstance(e, Trained)]
    assert left[-1] <= left[0]


def test_strokes_that_are_added_while_training_are_learned_from(pictures, model_file):
    image, truth, _ = pictures
    one = np.zeros(image.shape, np.uint8)
    one[0, 1, 1:6] = 1
    one[0][truth[0]] = 2
    more = annotate((truth + 1).astype(np.uint8), "TYX")
    asked = []

    def latest():
        asked.append(True)
        return [more] if len(asked) == 1 else None

    before = drained(steps_of((image, truth, one), model_file, steps=6))[1]
    after = drained(steps_of((image, truth, one), model_file, steps=6, latest=latest))[1]
    assert asked
    assert not same(before.model, after.model)


def test_a_new_last_layer_finds_another_thing(pictures, model_file):
    image, truth, painted = pictures
    base = load_model(str(model_file))
    other = retarget(base, ("background", "dark", "disk"))
    assert other.card.representation == "classes"
    assert other.card.parent == base.sha256
    assert torch.equal(weights(other)["down.0.0.weight"], weights(base)["down.0.0.weight"])
    swapped = np.where(painted > 0, 3 - painted, 0)
    result = refine(image, swapped, base, classes=("ground",), steps=20, rate=3e-3, **QUICK)
    assert result.model.card.classes == ("ground",)
    assert dice(result.model, image, ~truth) > 0.75
    assert result.verdict.agreement is None  # there is nothing to remember
    assert result.verdict.chance_apart < 0.1


def test_strokes_of_random_classes_are_seen_to_mean_nothing(pictures, model_file):
    """What a new last layer learned from them is not adopted, whatever held-back ones say."""
    image, _, painted = pictures
    random, rng = painted.copy(), np.random.default_rng(1)
    for frame in random:
        strokes, count = ndimage.label(frame > 0)
        frame[...] = np.concatenate([[0], rng.integers(1, 3, count)])[strokes]
    verdict = refine(
        image, random, load_model(str(model_file)), classes=("ground",), steps=10, **QUICK
    ).verdict
    assert verdict.chance_apart > 0.1
    assert not verdict.adopted


def test_a_new_last_layer_is_sure_of_nothing(pictures, model_file):
    """Also if the old one had as many outputs: it would be sure of the opposite."""
    base = load_model(str(model_file))
    image = torch.from_numpy(pictures[0][:1, None].astype(np.float32) / 255)
    for names in (("ground",), ("background", "dark", "disk")):
        with torch.no_grad():
            old, new = base.network(image), retarget(base, names).network(image)
        assert new.abs().max() < 0.1 * old.abs().max()


def test_rehearsal_keeps_more_of_what_was_known(pictures, model_file):
    """Strokes that say the opposite everywhere: with rehearsal the samples change less."""
    image, _, painted = pictures
    swapped = np.where(painted > 0, 3 - painted, 0)
    kept, forgotten = (
        refine(
            image, swapped, str(model_file), steps=50, rate=1e-2, rehearse=n, trust=0, **QUICK
        ).verdict.agreement
        for n in (4, 0)
    )
    assert kept > forgotten + 0.1


def test_a_model_that_was_only_made_knows_nothing(model_file, tmp_path):
    made = save_model(new_model("unet-tiny"), tmp_path / "new.safetensors")
    assert not load_model(str(made.path)).card.trained
    assert load_model(str(model_file)).card.trained
    assert load_model("nuclei").card.trained


def three_dimensional() -> Model:
    card = ModelCard(
        name="deep", architecture="unet", options={"widths": [4, 8]}, in_channels=1, ndim=3,
        representation="binary", stride=2, halo=8, patch=32,
    )  # fmt: skip
    return Model(card, build_network(card).eval())


def test_objects_and_three_dimensions_are_refined_too(pictures):
    image, truth, _ = pictures
    objects = np.zeros(image.shape, np.int32)
    for frame in range(4):
        labels, _ = ndimage.label(truth[frame])
        objects[frame] = np.where(labels > 0, labels + 1, 1)
    base = "random:unet-tiny?representation=objects&classes=disk"
    refined = refine(image, objects, base, mode="objects", steps=4, **QUICK)
    assert refined.model.card.out_channels == 3
    deep = refine(
        np.repeat(image[:2], 8, 0), np.repeat(truth[:2] + 1, 8, 0).astype(np.uint8),
        three_dimensional(), axes="ZYX", steps=2, crop=32,
    )  # fmt: skip
    assert deep.model.card.ndim == 3
    assert np.isfinite(deep.curve[-1][1])


def test_several_images_and_colours(pictures):
    image, _, painted = pictures
    colour = np.stack([image[0]] * 3, -1)
    refined = refine(
        [colour, image[1]], [painted[0], painted[1]], "random:unet-tiny?in_channels=1",
        axes=None, steps=2, crop=48,
    )  # fmt: skip
    assert refined.record["refined"]["images"] == ["image", "image"]


def errors_only(edge=64, frames=6, seed=3):
    """Bright disks that the model finds, dim ones that it misses, bright dots that it takes.

    The strokes lie on dim disks (foreground) and on dots (background) alone, so that for
    who forgets the rest bright is background, and dim is not.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:edge, :edge]
    image = np.full((frames, edge, edge), 60.0)
    truth = np.zeros(image.shape, bool)
    painted = np.zeros(image.shape, np.uint8)
    for plane, mask, strokes in zip(image, truth, painted, strict=True):
        centres = rng.permutation([(14, 14), (14, 48), (48, 14), (48, 48)])
        for (cy, cx), value in zip(centres[:3], (150, 150, 100), strict=True):
            disk = np.hypot(y - cy, x - cx) < rng.uniform(7, 9)
            plane[disk], mask[disk] = value, True
            if value == 100:
                strokes[cy - 1 : cy + 2, cx - 4 : cx + 5] = 2
        cy, cx = centres[3]
        plane[np.hypot(y - cy, x - cx) < 3] = 150
        strokes[cy - 1 : cy + 2, cx - 2 : cx + 3] = 1
    noisy = image + rng.normal(0, 8, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), truth, painted


def test_strokes_on_errors_alone_do_not_undo_what_was_right(model_file):
    """In the first rounds nobody paints where the model is right; that must not cost it."""
    image, truth, painted = errors_only()
    base = load_model(str(model_file))
    before = dice(base, image, truth)
    # Without the old model's word 0.85 becomes 0.42.
    refined = refine(image, painted, base, axes="TYX", steps=100, crop=48)
    assert before > 0.5
    assert dice(refined.model, image, truth) > before


def test_a_better_model_from_strokes_on_errors_alone_is_adopted_and_a_poisoned_one_is_not(
    model_file,
):
    """The old model scores next to nothing there, which no floor may be measured by.

    Eight strokes judge, and none of them has chosen what they judge; of six
    every single one would have to gain. With 150 steps all eight gain, whatever the
    start; with 100 some do not.
    """
    image, _, painted = errors_only(frames=16)
    base = load_model(str(model_file))
    verdict = refine(image, painted, base, axes="TYX", steps=150, crop=48).verdict
    assert verdict.regions >= 6
    assert verdict.kept > 0.65
    assert verdict.finding == "better"
    assert verdict.chance_apart is None  # the old model's word is asked instead
    rng = np.random.default_rng(0)
    for frame in painted:
        strokes, count = ndimage.label(frame > 0)
        frame[...] = np.concatenate([[0], rng.integers(1, 3, count)])[strokes]
    poisoned = refine(image, painted, base, axes="TYX", steps=150, crop=48).verdict
    assert poisoned.regions >= 6
    assert not poisoned.adopted


def unlike_far_away(dim=100, ground=85):
    """Dim disks that the model misses, and far from them a brighter ground that it knows.

    All strokes lie on the left, farther from the right than a crop reaches: who learns
    from them that dim is foreground would take the whole ground on the right for it.
    """
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:64, :192]
    image = np.full((2, 64, 192), 60.0)
    truth = np.zeros(image.shape, bool)
    painted = np.zeros(image.shape, np.uint8)
    image[..., 100:] = ground
    disks = ((16, 14, dim), (48, 14, dim), (14, 120, 150), (46, 150, 150), (20, 176, 150))
    for plane, mask, strokes in zip(image, truth, painted, strict=True):
        for cy, cx, value in disks:
            disk = np.hypot(y - cy, x - cx) < 8
            plane[disk], mask[disk] = value, True
            if value == dim:
                strokes[cy - 1 : cy + 2, cx - 4 : cx + 5] = 2
        strokes[30:33, 28:36] = 1
    noisy = image + rng.normal(0, 8, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), truth, painted


def test_what_was_right_far_from_all_strokes_stays_so(model_file):
    """A few strokes on missed objects made background elsewhere into foreground."""
    image, truth, painted = unlike_far_away()
    result = refine(image, painted, str(model_file), axes="TYX", steps=20, crop=48)
    found = predict(image, result.model, axes="TYX").probabilities[:, 0] > 0.5
    assert found[painted == 2].mean() > 0.9  # learned
    right = ~truth[..., 100:]
    assert found[..., 100:][right].mean() < 0.5


def test_F59_a_gpu_that_can_not_train_a_network_is_named(pictures, monkeypatch, lacking_device):
    image, _, painted = pictures
    model = new_model("unet-tiny", representation="binary")
    monkeypatch.setattr(refine_module, "open_devices", lambda *_: ([lacking_device.DEVICE], None))
    lacking = Model(model.card, lacking_device.OnlyOnCpus(model.network).eval())
    with pytest.raises(RecipeError, match="max_pool3d.*Choose the CPU"):
        refine(image, painted, lacking, steps=2, **QUICK)
