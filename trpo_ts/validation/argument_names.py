"""Errors for arguments that other libraries call by another name, or pass by position."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

import gymnasium as gym

__all__ = ["ALGORITHM_NAMES", "NETWORK_NAMES", "explained", "explained_parameters"]

P = ParamSpec("P")
T = TypeVar("T")

_NETWORKS = "policy=trpo_ts.policies.make_policy(...) and critic=trpo_ts.critics.make_critic(...)"
_RATE = "optim=AdamOptimizerFactory(lr=...), the critic's optimiser; the policy has no learning rate"
_TRAINER = "{} of Tianshou's OnPolicyTrainerParams"

ALGORITHM_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("target_kl", "delta", "max_kl_step", "max_kl_divergence", "kl_bound"), "max_kl"),
    **dict.fromkeys(("cg_max_steps", "conjugate_gradient_steps", "max_cg_iters"), "cg_iters"),
    **dict.fromkeys(("damping", "damping_coeff"), "cg_damping"),
    **dict.fromkeys(("line_search_shrinking_factor", "backtrack_ratio"), "backtrack_coeff"),
    **dict.fromkeys(("line_search_max_iter", "backtrack_iters", "max_backtrack_steps"), "max_backtracks"),
    **dict.fromkeys(("n_critic_updates", "train_v_iters", "vf_iters"), "optim_critic_iters"),
    **dict.fromkeys(("lam", "lambda_"), "gae_lambda"),
    **dict.fromkeys(("discount", "discount_factor"), "gamma"),
    **dict.fromkeys(("normalize_advantage", "norm_adv"), "advantage_normalization"),
    **dict.fromkeys(("reward_normalization", "return_standardization"), "return_scaling"),
    **dict.fromkeys(("ent_weight", "entropy_coef", "ent_beta"), "ent_coef"),
    "sub_sampling_factor": "fisher_subsampling, its reciprocal",
    **dict.fromkeys(("actor", "actor_critic", "dist_fn", "policy_kwargs", "ac_kwargs", "use_sde"), _NETWORKS),
    **dict.fromkeys(("learning_rate", "lr", "vf_lr"), _RATE),
    **dict.fromkeys(("env", "env_fn"), "Collector(algorithm, env) of Tianshou, which the trainer is given"),
    **dict.fromkeys(("n_steps", "steps_per_epoch"), _TRAINER.format("collection_step_num_env_steps")),
    **dict.fromkeys(("epochs", "total_timesteps"), _TRAINER.format("max_epochs and epoch_num_steps")),
    "batch_size": _TRAINER.format("batch_size"),
    "repeat": _TRAINER.format("update_step_num_repetitions"),
    **dict.fromkeys(("verbose", "tensorboard_log", "logger_kwargs"), _TRAINER.format("logger")),
    "seed": "torch.manual_seed(seed) before the networks are built, and envs.seed(seed)",
    "device": "policy.to(device) and critic.to(device) before the algorithm is built",
}
"""What Stable-Baselines3, Spinning Up, skrl, garage and earlier versions of Tianshou call it, and what to write."""

NETWORK_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("net_arch", "hidden_layers", "layers"), "hidden_sizes"),
    "activation_fn": "activation",
    **dict.fromkeys(("log_std_init", "init_std", "log_std"), "initial_std, the standard deviation itself"),
    "use_sde": 'distribution="gsde"',
    "sde_sample_freq": "noise_steps",
    "squash_output": 'distribution="squashed_gaussian"',
    **dict.fromkeys(("features_extractor", "features_extractor_class", "preprocess_net"), "trunk"),
    **dict.fromkeys(("lstm_hidden_size", "rnn_hidden_size"), "hidden_size of make_recurrent_policy"),
    "deterministic": "deterministic_eval",
    **dict.fromkeys(("action_mask", "mask"), "mask_key, the key of the observation that holds it"),
    "device": "policy.to(device)",
}
"""The same for networks."""


def explained(names: Mapping[str, str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for functions whose errors about their arguments say what to write instead.

    :param names: what to write, by foreign names.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        parameters = signature(function).parameters
        called = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            _check_positional(called, parameters, args)
            _check_keywords(called, parameters, kwargs, names)
            _check_spaces(called, parameters, args, kwargs)
            return function(*args, **kwargs)

        return checked

    return decorate


def explained_parameters(kind: type[T]) -> type[T]:
    """Return a dataclass of an algorithm's parameters whose constructor says what to write for foreign names."""
    kind.__init__ = explained(ALGORITHM_NAMES)(kind.__init__)  # type: ignore[method-assign]
    return kind


def _check_positional(called: str, parameters: Mapping[str, Parameter], args: tuple[Any, ...]) -> None:
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    allowed = sum(parameter.kind in by_position for parameter in parameters.values())
    if len(args) > allowed:
        named = [name for name, parameter in parameters.items() if parameter.kind is Parameter.KEYWORD_ONLY]
        raise TypeError(
            f"{called}() takes its arguments by name, got {args[allowed]!r} by position; "
            f"write {called}({', '.join(f'{name}=...' for name in named[:3])}, ...)"
        )


def _check_keywords(
    called: str, parameters: Mapping[str, Parameter], kwargs: Mapping[str, Any], names: Mapping[str, str]
) -> None:
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in kwargs:
        if name in parameters:
            continue
        close = difflib.get_close_matches(name, parameters, n=1)
        fix = f"write {names[name]}" if name in names else f"did you mean {close[0]}?" if close else None
        raise TypeError(
            f"{called}() got an unexpected keyword argument {name!r}; "
            f"{fix or 'its parameters are ' + ', '.join(parameter for parameter in parameters if parameter != 'self')}"
        )


def _check_spaces(
    called: str, parameters: Mapping[str, Parameter], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    given = {**dict(zip(parameters, args, strict=False)), **kwargs}
    wanted = [name for name in ("observation_space", "action_space") if name in parameters]
    for name in wanted:
        value = given.get(name)
        if not isinstance(value, gym.Space) and hasattr(value, "observation_space") and hasattr(value, "action_space"):
            raise ValueError(
                f"{name} must be a gymnasium Space, got the environment {type(value).__name__}; "
                f"write {called}({', '.join(f'env.{space}' for space in wanted)})"
            )
