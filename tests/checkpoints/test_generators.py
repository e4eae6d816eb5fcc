"""The state of random generators."""

from __future__ import annotations

import torch
from runs import bits

from trpo_ts.checkpoints.generators import generator_states, set_generator_states


def test_the_generators_of_the_devices_that_are_present_are_restored(monkeypatch):
    devices = {0: torch.zeros(4, dtype=torch.uint8), 1: torch.ones(4, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(devices.values()))
    states = generator_states()
    restored = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.update({device: state}))
    set_generator_states(states)
    assert bits(restored) == bits({0: devices[0]})
