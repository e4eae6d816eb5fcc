"""A regression task for the fits of a critic."""

from __future__ import annotations

import torch
from rollouts import OBS_DIM

from trpo_ts.critics import CriticTask


def task_of(critic, rows=120, micro_batch_size=None, scale=1.0, lr=1e-2):
    generator = torch.Generator().manual_seed(0)
    dtype = next(critic.parameters()).dtype
    obs = torch.randn(rows, OBS_DIM, generator=generator, dtype=torch.float64).to(dtype)
    returns = scale * (obs.square().sum(dim=1) + 0.1 * torch.randn(rows, generator=generator).to(dtype))
    return CriticTask(critic, torch.optim.Adam(critic.parameters(), lr=lr), obs, returns, micro_batch_size)


def error(task):
    with torch.no_grad():
        return float((task.critic(task.obs).flatten() - task.returns).square().mean())
