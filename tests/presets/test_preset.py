"""The files of presets."""

from __future__ import annotations

import importlib.util

import gymnasium as gym
import pytest
from gymnasium import spaces
from repository import ROOT

from trpo_ts.envs.tasks import extra_of
from trpo_ts.presets import Settings, load_preset, preset_for, preset_names
from trpo_ts.training import make_job

EXAMPLES = {
    "box2d": "LunarLander-v3",
    "classic_control": "Acrobot-v1",
    "generic": "little_tasks:DictTask-v0",
    "images": "Catch-v0",
    "memory": "RepeatPrevious-v0",
    "mujoco": "Reacher-v4",
    "point_mass": "PointMass1D-v0",
    "toys": "Taxi-v4",
    "vectors": "CartPole-v1",
}
KINDS = {"vector", "image", "categories", "mixed"}

every_preset = pytest.mark.parametrize("name", preset_names())


def test_there_is_a_preset_for_each_family():
    assert set(preset_names()) == set(EXAMPLES)


@every_preset
def test_a_preset_builds_a_job_as_it_is(name):
    task = EXAMPLES[name]
    if extra_of(gym.registry.get(task, gym.spec("CartPole-v1"))) == "mujoco":
        pytest.importorskip("mujoco")
    if name == "box2d":
        pytest.importorskip("Box2D")
    job = make_job(task, preset=name)
    assert job.config.settings == load_preset(name).settings(task)
    rollout = job.config.settings.num_envs * job.config.settings.segment
    assert job.params.collection_step_num_env_steps == rollout
    job.close()


@every_preset
def test_the_settings_of_each_task_are_settings(name):
    preset = load_preset(name)
    assert set(preset.observations) <= KINDS
    assert set(preset.default_for) <= set(preset.observations)
    for task in [*preset.tasks, *preset.task_values]:
        assert isinstance(preset.settings(task.replace("*", "1")), Settings)


def test_each_kind_of_observation_has_one_preset():
    defaults = [kind for name in preset_names() for kind in load_preset(name).default_for]
    assert sorted(defaults) == sorted(KINDS)


def test_patterns_match_tasks_that_exist_and_no_task_has_two_presets():
    presets = [load_preset(name) for name in preset_names()]
    for preset in presets:
        for pattern in preset.tasks:
            if not pattern.startswith("ALE/"):
                assert any(type(preset)(**{**vars(preset), "tasks": (pattern,)}).matches(task) for task in gym.registry)
    for task in gym.registry:
        assert sum(preset.matches(task) for preset in presets) <= 1, task


def test_what_a_task_sets_replaces_what_its_family_sets():
    mujoco = load_preset("mujoco")
    assert mujoco.settings("Hopper-v5").gamma == 0.99
    assert mujoco.settings("Swimmer-v5").gamma == 0.9999
    assert mujoco.settings("some.module:Swimmer-v5").gamma == 0.9999
    assert mujoco.settings("Swimmer-v5", gamma=0.5).gamma == 0.5
    assert load_preset("images").settings("Catch-v0").micro_batch_size is None


def test_an_unknown_name_is_answered_with_all():
    with pytest.raises(ValueError, match=r"preset must be one of box2d, .*, got 'mujoc'; did you mean mujoco"):
        load_preset("mujoc")
    with pytest.raises(ValueError, match="preset must be one of box2d"):
        load_preset("../presets/mujoco")


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="write max_kl"):
        load_preset("mujoco").settings("Hopper-v5", target_kl=0.1)


def test_the_table_in_the_documentation_is_current():
    spec = importlib.util.spec_from_file_location("preset_table", ROOT / "tools" / "preset_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text()
    assert module.with_table(text) == text, "run: python tools/preset_table.py"


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (spaces.Box(-1, 1, (3,)), "vectors"),
        (spaces.Box(0, 255, (64, 64, 3), dtype="uint8"), "images"),
        (spaces.Box(0, 5, (3,), dtype="int32"), "generic"),
        (spaces.Discrete(5), "toys"),
        (spaces.MultiDiscrete([2, 3]), "toys"),
        (spaces.MultiBinary(4), "toys"),
        (spaces.Dict(x=spaces.Box(-1, 1, (3,))), "generic"),
        (spaces.Tuple([spaces.Discrete(2)]), "generic"),
    ],
)
def test_a_task_that_no_preset_names_gets_one_by_its_observations(space, name):
    assert preset_for("Mine-v0", space).name == name
    assert preset_for("Mine-v0") is None
    assert preset_for("Hopper-v5", space).name == "mujoco"
