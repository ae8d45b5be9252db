"""What is kept of a training: how far from the old weights, and by which score that is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unet_studio.training.keeping import HALF, Keeper, between


class Dial(nn.Module):
    """One number to learn, and the statistics of a batch normalisation."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.value = nn.Parameter(torch.tensor([value]))

    def turned(self, value: float) -> Dial:
        with torch.no_grad():
            self.value.fill_(value)
        return self


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def keeper_of(score, **options) -> Keeper:
    chosen = {"chooses": True, "known": True, "share": None, "patience": 3} | options
    return Keeper(Dial(0.0), score, **chosen)


def near(best: float):
    """Return a score that is 1 at one value and falls to both sides."""
    return lambda network: 1 - abs(float(network.value) - best)


def test_the_ends_of_the_way_are_the_old_and_the_new_weights_bit_for_bit():
    old, new = Dial(-0.0).state_dict(), Dial(float("nan")).state_dict()
    old["norm.num_batches_tracked"] += 7
    for share, same in ((0.0, old), (1.0, new)):
        found = between(old, new, share)
        assert {n: bits(v) for n, v in found.items()} == {n: bits(v) for n, v in same.items()}
        found["value"] += 1  # a copy
    assert bits(old["value"]) == bits(torch.tensor([-0.0]))


def test_between_them_weights_and_batch_statistics_are_in_proportion():
    old, new = Dial(2.0).state_dict(), Dial(4.0).state_dict()
    new["norm.running_mean"] += 8
    new["norm.num_batches_tracked"] += 3
    found = between(old, new, 0.25)
    assert float(found["value"]) == 2.5
    assert float(found["norm.running_mean"]) == 2.0
    assert int(found["norm.num_batches_tracked"]) == 3
    assert float(new["value"]) == 4.0


def test_a_score_that_may_not_choose_is_told_and_changes_nothing():
    """It comes from regions on which the result is judged."""
    keeper, dial = keeper_of(near(0.5), chooses=False, patience=1), Dial(0.0)
    told = [keeper.look(dial.turned(v)) for v in (1.0, 4.0, 6.0)]
    assert told == [1.0, -0.5, -1.5]  # of what would be kept, half of the way
    assert not keeper.tired
    assert keeper.share == HALF
    assert float(keeper.kept(dial.turned(8.0))["value"]) == 4.0


def test_without_a_score_the_last_weights_are_kept():
    keeper = keeper_of(None)
    assert keeper.look(Dial(1.0)) is None
    assert float(keeper.kept(Dial(3.0))["value"]) == 1.5


@pytest.mark.parametrize(("best", "share"), [(1.0, 0.25), (2.0, 0.5), (3.0, 0.75), (4.0, 1.0)])
def test_a_score_that_may_choose_finds_the_best_share(best, share):
    keeper = keeper_of(near(best))
    assert keeper.look(Dial(4.0)) == 1.0
    assert keeper.share == share
    assert float(keeper.kept(Dial(99.0))["value"]) == best


def test_of_shares_that_score_the_same_the_one_closest_to_the_old_model_is_kept():
    keeper = keeper_of(lambda network: 0.5)
    keeper.look(Dial(4.0))
    assert keeper.share == 0.25
    keeper.look(Dial(8.0))  # as good, but longer trained
    assert float(keeper.kept(Dial(0.0))["value"]) == 2.0


def test_a_better_earlier_evaluation_is_kept_and_training_tires():
    keeper = keeper_of(near(1.0), patience=2)
    keeper.look(Dial(1.0))
    assert keeper.look(Dial(9.0)) < 1
    assert not keeper.tired
    keeper.look(Dial(9.0))
    assert keeper.tired
    assert float(keeper.kept(Dial(9.0))["value"]) == 1.0


@pytest.mark.parametrize(("falls", "share"), [(0.01, 1.0), (0.06, 0.75), (0.1, 0.5), (9, 0.25)])
def test_without_a_score_to_choose_by_it_goes_as_far_as_what_was_known_stays(falls, share):
    keeper = keeper_of(near(0.0), chooses=False, keeps=lambda net: 1 - falls * float(net.value))
    keeper.look(Dial(1.0))
    assert float(keeper.kept(Dial(1.0))["value"]) == keeper.share == share


def test_what_knew_nothing_of_the_image_has_nothing_to_lose_there():
    """Nor does it say how far to go: half."""
    keeper = keeper_of(None, keeps=lambda net: None)
    assert float(keeper.kept(Dial(1.0))["value"]) == keeper.share == HALF


def test_a_network_that_knew_nothing_goes_all_of_the_way():
    for share in (None, 0.5):
        keeper = keeper_of(near(1.0), known=False, share=share)
        keeper.look(Dial(4.0))
        assert float(keeper.kept(Dial(0.0))["value"]) == 4.0


def test_a_share_that_was_asked_for_is_gone():
    for chooses in (False, True):
        keeper = keeper_of(near(1.0), chooses=chooses, share=0.75)
        keeper.look(Dial(4.0))
        assert float(keeper.kept(Dial(4.0))["value"]) == 3.0


def test_what_is_shown_is_what_would_be_kept():
    keeper = keeper_of(near(3.0))
    assert float(keeper.shown(Dial(4.0)).value) == 2.0
    keeper.look(Dial(4.0))
    assert float(keeper.shown(Dial(4.0)).value) == 3.0
