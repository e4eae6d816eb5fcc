"""Whether a call of a module can be replaced by another way to compute it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from trpo_ts.autodiff.watched_modules import EqualForward, computes_as, has_forward_of, is_self_contained, is_watched


def hooked(register: str) -> nn.Module:
    layer = nn.Linear(2, 2)
    getattr(layer, register)(lambda *_: None)
    return layer


def replaced() -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x
    return layer


HOOKS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)
WATCHED: dict[str, Callable[[], nn.Module]] = {name: lambda name=name: hooked(name) for name in HOOKS}
WATCHED["another forward"] = replaced


@pytest.mark.parametrize("name", WATCHED)
def test_hooks_and_a_replaced_forward_watch(name: str):
    module = WATCHED[name]()
    assert is_watched(module)
    assert not has_forward_of(nn.Linear, module)
    assert computes_as(nn.Linear, module) is (name in HOOKS)
    assert not is_self_contained(nn.Sequential(module), ("torch",))


def test_a_plain_layer_is_not_watched_nor_one_whose_replacement_computes_the_same():
    layer = nn.Linear(2, 2)
    assert not is_watched(layer)
    assert has_forward_of(nn.Linear, layer)
    layer.forward = EqualForward(nn.Linear.forward, layer)
    assert not is_watched(layer)


def test_hooks_for_all_modules_watch_each_of_them():
    handle = register_module_forward_hook(lambda *_: None)
    try:
        assert is_watched(nn.Linear(2, 2))
    finally:
        handle.remove()
    assert not is_watched(nn.Linear(2, 2))


class Subclass(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


class Renamed(nn.Linear):
    """The same forward pass in a class of a user."""


def test_a_subclass_computes_as_its_parent_unless_it_has_a_forward_of_its_own():
    assert computes_as(nn.Linear, Renamed(2, 2))
    assert not computes_as(nn.Linear, Subclass(2, 2))


def test_a_forward_of_the_class_that_was_replaced_later_is_another_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: torch.tanh(x))
    assert not computes_as(nn.Tanh, nn.Tanh())


def test_self_contained_are_modules_whose_classes_are_all_of_known_packages():
    assert is_self_contained(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), ("torch",))
    assert not is_self_contained(nn.Sequential(nn.Linear(2, 2), Renamed(2, 2)), ("torch",))
    assert not is_self_contained(nn.Tanh(), ("trpo_ts",))
