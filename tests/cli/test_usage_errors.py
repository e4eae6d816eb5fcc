"""What cannot be done is answered with one line that says what to type, and leaves nothing behind."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from command_line import train

from trpo_ts.cli.main import main

WRONG = {
    "": "train, resume, evaluate, report, tasks",
    "fly": "trpo-ts --help",
    "--fly": "trpo-ts --help",
    "train extra": "trpo-ts train --help",
    "train --task": "--task",
    "train --task Hoper-v5": "did you mean Hopper-v5?",
    "train --task Xyzzy": "trpo-ts tasks",
    "train --task no_module:Task-v0": "no_module:Task-v0",
    "train --task Hopper-v2": "cannot be made",
    "train --task ALE/NoGame-v5": "did you mean ALE/" if find_spec("ale_py") else 'pip install "trpo-ts[atari]"',
    "train --preset mujko": "did you mean mujoco?",
    "train --preset mujoco --task FrozenLake-v1": "take the preset toys",
    "train --preset images": "take the preset point_mass",
    "train --steps 0": "change --steps",
    "train --steps -5": "change --steps",
    "train --steps many": "write --steps INT",
    "train --steps": "--steps",
    "train --steps 1.5": "write --steps INT",
    "train --seed -1": "change --seed",
    "train --seed 4294967296": "<= 4294967295",
    "train --seed 4294967295 --seeds 2": "<= 4294967295",
    "train --seeds 1000000000": "--seeds must be at most 10000",
    "train --seeds 0": "--seeds must be an integer >= 1",
    "train --jobs 0 --seeds 2": "--jobs must be an integer >= 1",
    "train --jobs 2": "type --seeds 2 too",
    "train --threads 0": "--threads must be an integer >= 1",
    "train --save-every -1": "--save-every must be a number >= 0",
    "train --test-every -1": "change --test-every",
    "train --test-episodes 0": "change --test-episodes",
    "train --num-envs 0": "change --num-envs",
    "train --segment 0": "change --segment",
    "train --frame-stack 0": "change --frame-stack",
    "train --max-episode-steps 0": "change --max-episode-steps",
    "train --task Catch-v0 --frame-stack 3": "change --frame-stack",
    "train --task FrozenLake-v1 --normalise-observations": "change --normalise-observations",
    "train --env-backend envpool": 'take env_backend="gymnasium"',
    "train --env-backend isaac": "'auto', 'gymnasium', 'envpool', 'ray'",
    "train --logger csv": "'tensorboard', 'wandb', 'none'",
    "train --hidden-sizes": "say (64, 64)",
    "train --hidden-sizes 64 0": "hidden_sizes[1]",
    "train --activation swish": "'silu'",
    "train --memory gru --layer-norm": "change --layer-norm",
    "train --memory rnn": "'gru', 'lstm'",
    "train --memory gru --memory-size 0": "change --memory-size",
    "train --distribution beta --task CartPole-v1": "change --distribution",
    "train --initial-std 0": "change --initial-std",
    "train --mask-key mask": "change --mask-key",
    "train --critic-fit GaussFit": "'GaussNewtonFit(steps=2)'",
    "train --critic-fit GaussNewtonFit(3)": "by name",
    "train --critic-fit GaussNewtonFit(steps=0)": "steps must be an integer >= 1",
    "train --critic-fit __import__('os').getcwd()": "change --critic-fit",
    "train --preconditioner KFAC(samples=0)": "change --preconditioner",
    "train --lr 0": "change --lr",
    "train --batch-size 0": "change --batch-size",
    "train --max-kl 0": "change --max-kl",
    "train --max-kl nan": "change --max-kl",
    "train --max-kl tiny": "max_kl must be a number or a schedule, such as 'LinearSchedule(start=0.02, end=0)'",
    "train --ent-coef LinearSchedule(end=0)": "missing 1 required keyword-only argument: 'start'; change --ent-coef",
    "train --gamma 1.5": "change --gamma",
    "train --cg-tolerance 1": "change --cg-tolerance",
    "train --micro-batch-size 0": "change --micro-batch-size",
    "train --repeat 0": "change --repeat",
    "train --target-kl 0.1": "write --max-kl",
    "train --max-kk 0.1": "did you mean --max-kl",
    "train --env CartPole-v1": "write --task",
    "train --total-timesteps 100": "write --steps",
    "train --use-sde": "write --distribution gsde",
    "train --out file": "--out must be a folder",
    "train --out other": "type another --out",
    "resume": "Folder of the run",
    "resume nowhere": "holds no run",
    "resume broken": "holds no configuration",
    "resume run --steps 1": "steps must be at least the 32",
    "resume run --steps 0": "--steps must be an integer >= 1",
    "train --out run --steps 32 --max-kl 0.5": "type trpo-ts resume run",
    "evaluate nowhere": "holds no run",
    "evaluate run --episodes 0": "--episodes must be an integer >= 1",
    "evaluate run --seed -1": "--seed must be an integer >= 0",
    "evaluate run --checkpoint first": "'best'",
    "evaluate run --checkpoint best": "type --checkpoint last",
    "report nowhere": "holds no run",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a run that was not tested, a file, and folders that are no runs."""
    folder = tmp_path_factory.mktemp("place")
    train(folder / "run", steps=32, test_every=0)
    (folder / "file").write_text("")
    for name, file in (("other", "thesis.tex"), ("broken", "config.json")):
        (folder / name).mkdir()
        (folder / name / file).write_text("[1]")
    return folder


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("words", WRONG)
def test_one_line_exit_code_2_nothing_written(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = contents(place)
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trpo-ts: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert WRONG[words] in err
    assert contents(place) == before


def test_the_process_ends_with_the_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "trpo_ts", "train", "--steps", "0"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trpo-ts: steps must be an integer >= 1, got 0; change --steps\n"
    assert list(tmp_path.iterdir()) == []


MISSING = {
    "mujoco": ("Hopper-v5", "mujoco"),
    "Box2D": ("LunarLander-v3", "box2d"),
    "ale_py": ("ALE/Pong-v5", "atari"),
    "envpool": ("CartPole-v1 --env-backend envpool", "envpool"),
    "wandb": ("CartPole-v1 --logger wandb", "wandb"),
}
"""Packages of extras, with what needs them and the extra's name."""


def test_a_missing_extra_is_named(tmp_path):
    """In a process in which none of them has been imported; one for all, since its start takes seconds."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({list(MISSING)})); from trpo_ts.cli.main import main; "
        "print([main(words.split()) for words in sys.argv[1:]])"
    )
    words = [f"train --task {task}" for task, _ in MISSING.values()]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{[2] * len(MISSING)}\n"
    lines = done.stderr.splitlines()
    assert len(lines) == len(MISSING)
    for line, (_, extra) in zip(lines, MISSING.values(), strict=True):
        assert f'pip install "trpo-ts[{extra}]"' in line
    assert list(tmp_path.iterdir()) == []


def test_help_is_no_error_and_shows_the_defaults_of_the_task(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--task", "Swimmer-v5", "--help"])
    assert end.value.code == 0
    assert "0.9999" in capsys.readouterr().out


def test_help_of_the_program_imports_neither_torch_nor_tianshou():
    code = (
        "import sys\nfrom trpo_ts.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'tianshou', 'plotly'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def refused(words, capsys, *parts):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("trpo-ts: ")
    for part in parts:
        assert part in err


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    refused(["train", "--steps", "1", "--out", str(tmp_path / "file" / "sub")], capsys, "file")
    refused(["train", "--steps", "1", "--out", str(tmp_path / ("x" * 300))], capsys, "name too long")
    fork = multiprocessing.get_context("fork")  # the start of new interpreters is not the point here
    monkeypatch.setattr("trpo_ts.cli.seeds.multiprocessing.get_context", lambda kind: fork)
    assert main(["train", "--steps", "1", "--out", str(tmp_path / "file" / "sub"), "--seeds", "2"]) == 2
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture(scope="module")
def untested(tmp_path_factory):
    """A run that has ended, without tests."""
    folder = tmp_path_factory.mktemp("untested") / "run"
    assert main(["train", "--steps", "1", "--test-every", "0", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def finished(untested, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(untested, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "text", "command", "part"),
    [
        ("config.json", '{"threads": "a"', "resume", "holds no configuration of a run"),
        ("summary.json", "[]", "report", "summary.json"),
        ("summary.json", "junk", "report", "holds no summary of a run"),
    ],
)
def test_a_file_that_is_damaged_is_named(finished, name, text, command, part, capsys):
    (finished / name).write_text(text)
    if text == "[]":  # an empty list is an empty dictionary to Python
        assert main([command, str(finished)]) == 0
        return
    refused([command, str(finished)], capsys, part)


@pytest.mark.parametrize(
    ("key", "value"), [("threads", "a"), ("threads", 0), ("task", 3), ("seed", "x"), ("logger", 1)]
)
def test_a_configuration_with_a_wrong_value_is_named(finished, key, value, capsys):
    values = json.loads((finished / "config.json").read_text())
    (finished / "config.json").write_text(json.dumps({**values, key: value}))
    refused(["resume", str(finished)], capsys, "holds no configuration of a run", key)


def test_checkpoints_that_are_none_are_named(finished, capsys):
    for name in ("last.ckpt", "previous.ckpt"):
        if (finished / name).exists():
            (finished / name).write_bytes(b"junk")
    assert main(["resume", str(finished), "--steps", "4096"]) == 2
    err = capsys.readouterr().err
    assert "no checkpoint in" in err
    assert "Traceback" not in err


def test_a_report_that_is_a_folder_is_named(finished, capsys):
    (finished / "report.html").unlink()
    (finished / "report.html").mkdir()
    refused(["report", str(finished)], capsys, "report.html")


def test_a_seed_of_evaluation_that_is_too_large_is_named(finished, capsys):
    refused(["evaluate", str(finished), "--seed", "99999999999"], capsys, "<= 4294967295")
