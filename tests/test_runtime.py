"""What an update changes in torch while it runs, and puts back."""

from __future__ import annotations

import contextlib

import pytest
import torch
from rollouts import Mlp
from torch import nn

from trpo_ts.runtime import twice_differentiable


@pytest.mark.parametrize("flash", [True, False])
def test_attention_gets_a_kernel_that_can_be_differentiated_twice_and_settings_stay(flash):
    def settings():
        cuda = torch.backends.cuda
        return (
            cuda.math_sdp_enabled(),
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.cudnn_sdp_enabled(),
        )

    outside = settings()
    torch.backends.cuda.enable_flash_sdp(flash)
    try:
        before = settings()
        with contextlib.suppress(ZeroDivisionError), twice_differentiable(Mlp((2, 3, 1))):
            assert settings() == (True, False, False, False)
            raise ZeroDivisionError
        assert settings() == before
    finally:
        torch.backends.cuda.enable_flash_sdp(outside[1])


def test_recurrent_layers_get_a_kernel_that_can_be_differentiated_twice_and_settings_stay():
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with twice_differentiable(nn.ModuleList([nn.GRU(2, 3)])):
        assert not torch.backends.cudnn.enabled
    with twice_differentiable(Mlp((2, 3, 1))):
        assert torch.backends.cudnn.enabled == before[0]
    after = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    assert after == before
