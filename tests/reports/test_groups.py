"""Which runs share a colour, and what their groups are called."""

from __future__ import annotations

from synthetic_runs import recorded

from trpo_ts.reports import RecordedRun
from trpo_ts.reports.groups import differing_settings, group_runs


def test_seeds_are_one_group_whatever_their_steps():
    (group,) = group_runs([recorded(seed=0, steps=100), recorded(seed=1, steps=200, threads=2)])
    assert (group.name, len(group.runs)) == ("Task-v0", 2)


def test_groups_are_named_after_the_settings_that_differ():
    runs = [recorded(seed=s, gae_lambda=v, hidden_sizes=[64, 64]) for v in (0.9, 0.95) for s in (0, 1)]
    groups = group_runs(runs)
    assert [group.name for group in groups] == ["gae_lambda 0.9", "gae_lambda 0.95"]
    assert differing_settings(runs) == ["gae_lambda"]
    assert len({(group.color, group.dash) for group in groups}) == 2
    tasks = group_runs([recorded(), RecordedRun([], settings={**recorded().settings, "task": "Other-v0"})])
    assert [group.name for group in tasks] == ["Task-v0", "Other-v0"]


def test_groups_that_differ_in_much_have_names_of_their_own():
    settings = [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 2, "b": 2, "c": 2, "d": 1}, {"a": 2, "b": 2, "c": 2, "d": 2}]
    names = [group.name for group in group_runs([recorded(seed=n, **s) for n, s in enumerate(settings)])]
    assert len(set(names)) == 3
    assert names[0] == "a 1, b 1, c 1"


def test_runs_without_settings_are_named_and_apart():
    groups = group_runs([RecordedRun([], name="one"), RecordedRun([], name="two")])
    assert [group.name for group in groups] == ["one", "two"]


def test_many_groups_differ_in_colour_or_dash():
    groups = group_runs([recorded(gamma=0.9 + 0.001 * n) for n in range(20)])
    assert len({(group.color, group.dash) for group in groups}) == 20
