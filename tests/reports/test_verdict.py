"""The verdict finds each trouble on one side of its threshold, and none on the other."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_runs import MAX_KL, updates_of

from trpo_ts.presets import Settings
from trpo_ts.reports import Finding, judge
from trpo_ts.solver.outcomes import StepOutcome

LINE_SEARCH = "The line search fails"
KL = "The KL budget is not used"
VARIANCE = "The explained variance is below zero"
FALL = "The return falls after a peak"
STD = "The standard deviation vanishes"


def rejecting(every: int, outcome: int = 5) -> dict:
    def rejected(n):
        return n % every == 0

    return {
        "accepted": lambda n: 0.0 if rejected(n) else 1.0,
        "kl": lambda n: 0.0 if rejected(n) else 0.8 * MAX_KL,
        "step_fraction": lambda n: 0.0 if rejected(n) else 1.0,
        "outcome": lambda n: float(outcome) if rejected(n) else 0.0,
    }


def falling(to: float) -> dict:
    return {"level": lambda n: 4.0 * min(n, 25) - (100.0 - to) * max(0.0, min(1.0, (n - 25) / 5))}


CASES = {
    "healthy": ({}, []),
    "a rejected update in four": (rejecting(4), [LINE_SEARCH]),
    "a rejected update in five": (rejecting(5), []),
    "a fifth of the budget": ({"kl": lambda n: 0.2 * MAX_KL}, [KL]),
    "three tenths of the budget": ({"kl": lambda n: 0.3 * MAX_KL}, []),
    "the budget unused at first": ({"kl": lambda n: (0.01 if n < 15 else 0.8) * MAX_KL}, []),
    "a negative explained variance": ({"explained_variance": lambda n: -0.05}, [VARIANCE]),
    "a small explained variance": ({"explained_variance": lambda n: 0.05}, []),
    "a negative one at first": ({"explained_variance": lambda n: -3.0 if n < 15 else 0.5}, []),
    "a loss of half the rise": (falling(to=50.0), [FALL]),
    "a loss of a fifth of the rise": (falling(to=80.0), []),
    "a fall from the start": ({"level": lambda n: -2.0 * n}, [FALL]),
    "noise alone": ({"level": lambda n: 0.0}, []),
    "a standard deviation of a twentieth": ({"policy_std": lambda n: 0.6 if n < 20 else 0.03}, [STD]),
    "a standard deviation of a fifth": ({"policy_std": lambda n: 0.6 if n < 20 else 0.12}, []),
    "a discrete policy": ({"policy_std": lambda n: None}, []),
    "two troubles": ({"explained_variance": lambda n: -1.0, "kl": lambda n: 0.0001}, [KL, VARIANCE]),
    "another algorithm": (
        dict.fromkeys(("kl", "accepted", "outcome", "explained_variance", "policy_std"), lambda n: None),
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_trouble_is_found_and_nothing_else(case):
    changes, titles = CASES[case]
    verdict = judge(updates_of(**changes), MAX_KL)
    assert [finding.title for finding in verdict.findings] == titles
    assert verdict.judged


def test_noise_is_rarely_called_a_fall():
    verdicts = [judge(updates_of(60, seed=seed, level=lambda n: 0.0), MAX_KL) for seed in range(100)]
    assert sum(bool(verdict.findings) for verdict in verdicts) <= 2


def only(**changes) -> Finding:
    (finding,) = judge(updates_of(**changes), MAX_KL).findings
    return finding


def test_too_few_updates_are_not_judged():
    assert not judge(updates_of(9, explained_variance=lambda n: -1.0), MAX_KL).judged
    assert judge(updates_of(10, explained_variance=lambda n: -1.0), MAX_KL).findings
    assert judge([], None).findings == ()


def test_the_use_of_an_unknown_bound_is_not_judged():
    assert judge(updates_of(kl=lambda n: 1e-9)).findings == ()


def test_the_bound_of_each_update_is_the_one_that_it_had():
    moving = {"max_kl": lambda n: 0.04 * (1.0 - n / 50.0)}
    used = {share: lambda n, share=share: share * moving["max_kl"](n) for share in (0.8, 0.2)}
    assert judge(updates_of(**moving, kl=used[0.8])).findings == ()
    (finding,) = judge(updates_of(**moving, kl=used[0.2])).findings
    assert "uses 20% of `max_kl`, though" in finding.evidence


def test_the_evidence_holds_the_numbers():
    assert "5 of the last 20 updates" in only(**rejecting(4)).evidence
    assert "20% of `max_kl` = 0.01" in only(kl=lambda n: 0.2 * MAX_KL).evidence
    assert "-0.05" in only(explained_variance=lambda n: -0.05).evidence
    assert "from 0.6 to 0.03" in only(policy_std=lambda n: 0.6 if n < 20 else 0.03).evidence
    last = np.mean([update.return_mean for update in updates_of(**falling(to=50.0))[-5:]])
    assert f"is {last:.4g} now" in only(**falling(to=50.0)).evidence


def test_the_advice_fits_the_cause():
    assert "`cg_damping`" in only(**rejecting(2, outcome=5)).advice
    assert "Lower `max_kl`" in only(**rejecting(2, outcome=7)).advice
    assert "`full_budget`" in only(kl=lambda n: 0.2 * MAX_KL).advice
    assert "`full_budget`" not in only(kl=lambda n: 0.2 * MAX_KL, step_fraction=lambda n: 0.4).advice


@pytest.mark.parametrize("outcome", StepOutcome)
def test_every_parameter_that_an_advice_names_exists(outcome):
    findings = [only(**rejecting(2, outcome=int(outcome)))]
    for changes, titles in CASES.values():
        findings += judge(updates_of(**changes), MAX_KL).findings if titles else ()
    names = {name for finding in findings for name in finding.advice.split("`")[1::2]}
    assert len(names) >= 8
    assert names - {"best.ckpt"} <= set(Settings.names())
    assert np.all([finding.evidence.endswith(".") and finding.advice.endswith(".") for finding in findings])
