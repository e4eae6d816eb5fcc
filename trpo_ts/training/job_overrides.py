"""The settings as keyword arguments of ``make_job``, so that editors complete them and type checkers know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from trpo_ts.choices import Activation, BoxDistribution, Memory, StdKind
from trpo_ts.critics import CriticFit
from trpo_ts.kfac.settings import KFAC
from trpo_ts.schedules import LinearSchedule

__all__ = ["JobOverrides"]


class JobOverrides(TypedDict, total=False):
    """The fields of :class:`trpo_ts.presets.Settings`, all optional; components also as objects."""

    steps: int
    test_every: int
    test_episodes: int
    num_envs: int
    segment: int
    normalise_observations: bool
    max_episode_steps: int | None
    image_side: int | None
    frame_stack: int
    hidden_sizes: Sequence[int]
    activation: Activation
    layer_norm: bool
    memory: Memory
    memory_size: int
    distribution: BoxDistribution
    std: StdKind
    initial_std: float
    min_std: float
    noise_steps: int
    mask_key: str | None
    critic_fit: CriticFit | str | None
    lr: float | LinearSchedule | str
    optim_critic_iters: int
    batch_size: int | None
    max_kl: float | LinearSchedule | str
    gamma: float
    gae_lambda: float | LinearSchedule | str
    return_scaling: bool
    advantage_normalization: bool
    ent_coef: float | LinearSchedule | str
    cg_iters: int
    cg_damping: float | LinearSchedule | str
    cg_tolerance: float
    preconditioner: KFAC | str | None
    fisher_subsampling: float
    full_budget: bool
    backtrack_coeff: float
    max_backtracks: int
    repeat: int
    max_batchsize: int
    micro_batch_size: int | None
