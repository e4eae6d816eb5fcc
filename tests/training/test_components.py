"""Components as texts."""

from __future__ import annotations

import pytest

from trpo_ts import KFAC
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit, OptimizerFit
from trpo_ts.training.components import critic_fit_of, preconditioner_of

FITS = [
    GaussNewtonFit(),
    GaussNewtonFit(steps=3, damping=1e-3, preconditioner=None),
    GaussNewtonFit(preconditioner=KFAC(samples=7)),
    MinibatchFit(epochs=2, batch_size=3),
    LBFGSFit(iterations=4),
    OptimizerFit(iterations=2, batch_size=None),
]


@pytest.mark.parametrize("fit", FITS, ids=repr)
def test_the_text_of_repr_gives_the_fit_back(fit):
    assert critic_fit_of(repr(fit)) == fit


def test_names_alone_take_the_defaults():
    assert critic_fit_of("GaussNewtonFit") == GaussNewtonFit()
    assert critic_fit_of("GaussNewtonFit(preconditioner=KFAC)") == GaussNewtonFit(preconditioner=KFAC())
    assert preconditioner_of("KFAC(inner_iterations=2)") == KFAC(inner_iterations=2)
    assert critic_fit_of(None) is preconditioner_of(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Adam()",
        "KFAC()",
        "3",
        "GaussNewtonFit(2)",
        "GaussNewtonFit(**{})",
        "GaussNewtonFit(step=2)",
        "GaussNewtonFit(steps=-2)",
        "GaussNewtonFit(steps=open('x'))",
        "GaussNewtonFit(preconditioner=MinibatchFit())",
        "MinibatchFit().__class__",
        "[MinibatchFit()]",
        "MinibatchFit() if True else 0",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="critic_fit must be one of GaussNewtonFit, MinibatchFit"):
        critic_fit_of(text)


@pytest.mark.parametrize("text", ["GaussNewtonFit()", "KFAC(samples=0)", "7"])
def test_other_preconditioners_are_refused(text):
    with pytest.raises(ValueError, match="preconditioner must be one of KFAC, None"):
        preconditioner_of(text)
