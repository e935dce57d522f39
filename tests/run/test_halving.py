"""Halving a slow or failing group, on simulated groups: the node or the link at fault is named."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from nameplate.run.halving import Culprit, find_culprits


class Fabric:
    """Groups run at the speed of their slowest member or link; it counts the groups that were tried."""

    def __init__(self, slow=None, links=None, seed=0, together=None):
        self.slow, self.links, self.tried, self.together = slow or {}, links or {}, 0, together
        self.rng = np.random.default_rng(seed)

    def __call__(self, groups):
        assert len(set(itertools.chain(*groups))) == sum(map(len, groups)), "groups at one time share nobody"
        return [self.speed(group) for group in groups]

    def speed(self, group):
        self.tried += 1
        assert len(group) > 1
        speeds = [self.slow.get(each, 1.0) for each in group]
        speeds += [self.links.get(frozenset(pair), 1.0) for pair in itertools.combinations(group, 2)]
        if self.together and len(group) > self.together:
            speeds.append(0.4)
        if min(speeds) == 0.0:
            return None  # failed, or out of time
        return 45.0 * min(speeds) * math.exp(self.rng.normal(0, 0.05))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 33])
def test_a_sound_group_has_no_culprit(count):
    assert all(find_culprits(range(count), Fabric(seed=seed)) == () for seed in range(20))


@pytest.mark.parametrize("speed", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("count", [3, 4, 7, 8, 33])
def test_the_one_slow_or_failing_member_is_named_and_few_groups_are_tried(count, speed):
    for number in {0, 1, count // 2, count - 1}:
        fabric = Fabric(slow={number: speed}, seed=number)
        (found,) = find_culprits(range(count), fabric)
        assert (found.kind, found.members) == ("member", (number,))
        assert (found.share is None) if speed == 0 else found.share == pytest.approx(speed, rel=0.25)
        assert fabric.tried <= 1.5 * count + 4 * math.log2(count) + 8


@pytest.mark.parametrize("speed", [0.0, 0.3])
@pytest.mark.parametrize("pair", [(0, 1), (2, 3), (1, 6), (0, 7), (3, 4)])
def test_the_bad_link_between_two_sound_members_is_named(pair, speed):
    (found,) = find_culprits(range(8), Fabric(links={frozenset(pair): speed}))
    assert found.kind == "link"
    assert set(found.members) == set(pair)


def test_several_at_once_and_those_that_do_not_answer():
    found = find_culprits(range(16), Fabric(slow={3: 0.0, 12: 0.3}), dead=[5])
    assert found[0] == Culprit("dead", (5,))
    assert {(each.kind, each.members) for each in found[1:]} == {("member", (3,)), ("member", (12,))}
    assert find_culprits([0, 1], Fabric(slow={1: 0.0})) == (Culprit("link", (0, 1)),)
    assert find_culprits([0, 1], Fabric(), dead=[1]) == (Culprit("dead", (1,)),)
    # No pair is slow, all together are: that isn't blamed on two of them.
    (found,) = find_culprits(range(8), Fabric(together=4))
    assert (found.kind, found.members) == ("together", tuple(range(8)))
