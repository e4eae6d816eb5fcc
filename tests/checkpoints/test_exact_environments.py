"""An environment comes back exactly as it was, whatever its attributes are, or it counts as one that cannot."""

from __future__ import annotations

import collections
import enum
import functools
import random
import types
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from resumable import trainer_of
from runs import bits

from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.checkpoints.environments import (
    changed_constant,
    environment_state,
    environment_states,
    set_environment_state,
)
from trpo_ts.checkpoints.packing import pack, unpack
from trpo_ts.envs import FlattenAction


class Plain(gym.Env):
    """An environment that has whatever ``build`` gives it; an episode changes it by ``act``."""

    observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, build=lambda env: None):
        build(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}


def through_a_file(tmp_path, state):
    return read_file(write_file(tmp_path / "a.ckpt", {"state": state}))["state"]


def restored(tmp_path, env, other):
    """Bring ``other`` to where ``env`` is."""
    state = through_a_file(tmp_path, environment_state(env))
    other.reset(seed=1)
    assert changed_constant(other, state) is None
    set_environment_state(other, state)
    return other


def count(env):
    env.value["a"] += 1
    return list(env.value.items())


def to_end(env):
    env.value.move_to_end(next(iter(env.value)))
    return list(env.value)


def spawn(env):
    return env.value.spawn(1)[0].random(), env.value.random()


def drift(env):
    env.value += env.value.sum() / 3
    return bits(env.value)


def flags(env):
    try:
        env.value[0] = 1
    except ValueError:
        return "read only"
    return bits(env.value)


def rows(env):
    env.value[0]["n"] += 1
    return [row["n"] for row in env.value]


EXACT = {
    "Counter": (lambda: collections.Counter("aab"), count),
    "OrderedDict": (lambda: collections.OrderedDict(a=1, b=2, c=3), to_end),
    "tensor": (lambda: torch.full((3,), 0.1), drift),
    "order of Fortran": (lambda: np.asfortranarray(np.random.default_rng(0).random((3, 4), np.float32)), drift),
    "read only": (lambda: frozen(np.zeros(3)), flags),
    "spawned": (lambda: spawned(np.random.default_rng(3)), spawn),
    "reshaped": (lambda: np.arange(6.0).reshape(2, 3), drift),
    "objects": (lambda: np.array([{"n": 1}, {"n": 2}], dtype=object), rows),
}


def frozen(array):
    array.flags.writeable = False
    return array


def spawned(generator):
    generator.spawn(3)
    return generator


@pytest.mark.parametrize("name", EXACT)
def test_a_value_goes_on_as_it_was(tmp_path, name):
    make, act = EXACT[name]

    def build(env):
        env.value = make()

    env, other = Plain(build), Plain(build)
    env.reset(seed=0)
    act(env)
    restored(tmp_path, env, other)
    assert type(other.value) is type(env.value)
    for _ in range(5):
        assert act(env) == act(other)


class Phase(enum.Enum):
    BEGIN = 1


class Slotted(Plain):
    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


class Simulator:
    def __init__(self):
        self.time = 0

    def now(self):
        return self.time


Pair = collections.namedtuple("Pair", "a b")


def with_state():
    with_state.calls += 1


with_state.calls = 0


def with_cache(key, cache={}):  # noqa: B006
    return cache.setdefault(key, len(cache))


def holding_itself():
    value: list = []
    value.append(value)
    return value


def twice(value):
    return [value, value]


def one_generator():
    bits = np.random.PCG64(1)
    return [np.random.Generator(bits), np.random.Generator(bits)]


def tensor_over_array():
    array = np.zeros(3)
    return [array, torch.from_numpy(array)]


def legacy():
    return np.random.Generator(np.random.RandomState(3)._bit_generator)


INEXACT = {
    "defaultdict": lambda: collections.defaultdict(int, a=1),
    "defaultdict within": lambda: [collections.defaultdict(list)],
    "set": lambda: {1, 2},
    "named tuple": lambda: Pair(1, 2),
    "enumeration": lambda: Phase.BEGIN,
    "mapping proxy": lambda: types.MappingProxyType({}),
    "keys that are tuples": lambda: {(1, 2): 3},
    "keys that are booleans": lambda: {True: 3},
    "part of a tensor": lambda: torch.zeros(6)[:3],
    "transposed tensor": lambda: torch.zeros(2, 3).t(),
    "two tensors of one memory": lambda: [(t := torch.zeros(6)), t.view(2, 3)],
    "tensor over an array": tensor_over_array,
    "tensor with a gradient": lambda: torch.zeros(3, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(3)),
    "sparse tensor": lambda: torch.eye(3).to_sparse(),
    "array over a tensor": lambda: torch.zeros(3).numpy(),
    "array over other memory": lambda: np.frombuffer(bytearray(8), np.uint8),
    "array with gaps": lambda: np.zeros(6)[::2],
    "two arrays of one memory": lambda: [(a := np.zeros(6)), a[2:]],
    "masked array": lambda: np.ma.zeros(3),
    "records": lambda: np.zeros(2, dtype=[("x", "f4")]),
    "objects that are one": lambda: np.array([None, *twice({"n": 1})], dtype=object)[:],
    "objects and a list that are one": lambda: [(a := [1]), np.array([a, None], dtype=object)],
    "list in two places": lambda: twice([1]),
    "list that holds itself": holding_itself,
    "generator in two places": lambda: twice(np.random.default_rng(1)),
    "generators of one state": one_generator,
    "generator without seeds": legacy,
    "old generator": lambda: np.random.RandomState(1),
    "Python's generator": lambda: random.Random(1),
    "torch's generator": torch.Generator,
    "method of an object": lambda: Simulator().now,
    "method of a list": lambda: [].append,
    "function that keeps something": lambda: with_state,
    "function with a list in its arguments": lambda: with_cache,
    "partial function": lambda: functools.partial(max, 1),
    "ufunc of a function": lambda: np.frompyfunc(with_cache, 1, 1),
}


@pytest.mark.parametrize("name", INEXACT)
def test_a_value_that_would_not_be_the_same_is_not_written_down(name):
    def build(env):
        env.value = INEXACT[name]()

    env = Plain(build)
    env.reset(seed=0)
    assert environment_state(env) is None


def test_a_generator_that_the_spaces_draw_from_too_is_not_written_down():
    env = Plain()
    env.reset(seed=0)
    env.action_space = spaces.Discrete(3, seed=env.np_random)
    assert environment_state(env) is None


def test_slots_are_not_written_down():
    env = Slotted()
    env.reset(seed=0)
    assert environment_state(env) is None


def test_the_generator_of_a_space_of_the_class_goes_on(tmp_path):
    def make():
        class Own(Plain):
            action_space = spaces.Discrete(1000)

        return Own()

    env, other = make(), make()
    env.action_space.seed(3)
    env.action_space.sample()
    restored(tmp_path, env, other)
    assert [env.action_space.sample() for _ in range(5)] == [other.action_space.sample() for _ in range(5)]


def test_a_state_of_its_own_is_exact_too():
    class Own(Plain):
        def get_state(self):
            return {"counts": collections.defaultdict(int)}

        def set_state(self, state):
            raise AssertionError

    assert environment_state(Own()) is None


def test_all_generators_of_nested_spaces_go_on(tmp_path):
    def build(env):
        env.action_space = spaces.Sequence(spaces.Discrete(1000))
        env.goals = spaces.Dict(a=spaces.Tuple([spaces.Discrete(1000)] * 2), b=spaces.Box(-1.0, 1.0, (2,)))

    env, other = Plain(build), Plain(build)
    env.action_space.seed(1)
    env.goals.seed(2)
    restored(tmp_path, env, other)
    for _ in range(5):
        assert bits(env.goals.sample()) == bits(other.goals.sample())
        assert env.action_space.sample() == other.action_space.sample()


def one(env):
    return 1


def two(env):
    return 2


def change_function(env):
    env.rule = two


def change_class(env):
    type(env).history.append(len(type(env).history))


def change_class_number(env):
    type(env).level += 1


def change_other_class(env):
    env.kind.made += 1


def change_space(env):
    env.action_space = spaces.Discrete(3)


def change_bounds(env):
    env.limits.high[...] = 2.0


def add_function(env):
    env.second = two


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (change_function, "rule"),
        (change_class, "Own.history"),
        (change_class_number, "Own.level"),
        (change_other_class, "kind"),
        (change_space, "action_space"),
        (change_bounds, "limits"),
        (add_function, "second"),
    ],
)
def test_what_is_not_written_down_is_noticed_when_it_is_another(tmp_path, change, name):
    def make():
        class Kind:
            made = 0

        class Own(Plain):
            history: list = []  # noqa: RUF012
            level = 1

        def build(env):
            env.rule, env.kind, env.limits = one, Kind, spaces.Box(-1.0, 1.0, (2,))

        return Own(build)

    env, other = make(), make()
    env.reset(seed=0)
    state = through_a_file(tmp_path, environment_state(env))
    other.reset(seed=1)
    assert changed_constant(other, state) is None
    change(env)
    state = through_a_file(tmp_path, environment_state(env))
    assert changed_constant(other, state) == name


def test_attributes_are_set_past_setters_and_those_made_since_are_removed(tmp_path):
    class Own(Plain):
        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)
            object.__setattr__(self, "writes", getattr(self, "writes", 0) + 1)

    env, other = Own(), Own()
    for each in (env, other):
        each.reset(seed=0)
    other.later = 3
    restored(tmp_path, env, other)
    assert vars(other).keys() == vars(env).keys()
    assert other.writes == env.writes


def test_what_several_environments_share_stays_shared(tmp_path):
    def build_with(config):
        def build(env):
            env.config, env.count = config, 0

        return build

    make = build_with({"goals": [1, 2], "noise": np.zeros(3)})
    envs = [Plain(make), Plain(make)]
    for number, env in enumerate(envs):
        env.reset(seed=number)
        env.count = number + 5
    states = through_a_file(tmp_path, environment_states(envs))
    config = {"goals": [1, 2], "noise": np.zeros(3)}
    others = [Plain(build_with(config)) for _ in envs]
    for other, state in zip(others, states, strict=True):
        assert changed_constant(other, state) is None
        set_environment_state(other, state)
        assert other.config is config
    assert [other.count for other in others] == [5, 6]
    config["goals"].append(3)
    assert changed_constant(others[0], states[0]) == "config"


class Inner(gym.Env):
    observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = spaces.Dict(aim=spaces.Box(-1.0, 1.0, (1,)), gear=spaces.Discrete(2))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1.0, 1.0, 2)
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.place = self.place + action["aim"] + self.np_random.normal()
        return self.place.astype(np.float32), 0.0, False, False, {}


def test_what_a_wrapper_wraps_that_shows_itself_as_the_innermost_comes_back(tmp_path):
    def make():
        return gym.wrappers.TimeLimit(FlattenAction(Inner()), 20)

    env, other = make(), make()
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    restored(tmp_path, env, other)
    for _ in range(5):
        action = np.array([0.3, 1.0], np.float32)
        assert bits(env.step(action)) == bits(other.step(action))


def test_an_attribute_of_the_name_env_that_is_no_environment_comes_back(tmp_path):
    def build(env):
        env.env = 0

    env, other = Plain(build), Plain(build)
    env.reset(seed=0)
    env.env = 7
    assert restored(tmp_path, env, other).env == 7


def test_a_changed_model_of_a_physics_engine_is_noticed(tmp_path):
    pytest.importorskip("mujoco")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        envs = [gym.make("Hopper-v5") for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
    envs[0].step(envs[0].action_space.sample())
    state = through_a_file(tmp_path, environment_state(envs[0]))
    assert changed_constant(envs[1], state) is None
    envs[0].unwrapped.model.body_mass[1] *= 1.1
    state = through_a_file(tmp_path, environment_state(envs[0]))
    assert changed_constant(envs[1], state) == "model"


class Remembering(Plain):
    """Keeps what it learned of all episodes in its class."""

    history: list = []  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        self.history.append(seed or 0)
        return super().reset(seed=seed)


gym.register("Remembering-v0", entry_point=Remembering)


class Counting(Plain):
    def __init__(self):
        self.counts = collections.defaultdict(int)


gym.register("Counting-v0", entry_point=Counting)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("Remembering-v0", "because Remembering.history is not what it was"),
        ("Counting-v0", "because Counting.counts is of type defaultdict"),
    ],
)
def test_a_resumed_run_says_why_episodes_begin_anew(tmp_path, capsys, task, why):
    first = trainer_of(tmp_path, task=task, tests=False)
    first.reset()
    resumed = trainer_of(tmp_path, task=task, tests=False, verbose=True)
    resumed.reset()
    assert f"new training episodes, {why}" in capsys.readouterr().out
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(first.algorithm.state_dict()))


def test_a_state_of_an_earlier_version_is_set_as_it_was(tmp_path):
    env = gym.make("CartPole-v1")
    other = gym.make("CartPole-v1")
    env.reset(seed=0)
    env.step(1)
    state = through_a_file(tmp_path, environment_state(env))
    for layer in state:
        del layer["constants"]
    other.reset(seed=1)
    assert changed_constant(other, state) is None
    set_environment_state(other, state)
    assert bits(env.step(0)[0]) == bits(other.step(0)[0])


def test_a_generator_that_was_saved_without_its_seeds_goes_on():
    generator = np.random.default_rng(3)
    packed = pack(generator)
    del packed["seed_sequence"]
    assert unpack(packed).random() == generator.random()
