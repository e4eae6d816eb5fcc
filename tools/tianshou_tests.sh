#!/usr/bin/env bash
# Tianshou 2.0.1's own tests and examples of TRPO, NPG and the collector, with only the imports swapped. One command:
#
#   make tianshou-tests                    clones Tianshou at its tag from GitHub
#   make tianshou-tests TIANSHOU=PATH      takes the folders `test` and `examples` from a checkout of that tag
#
# Every line that is changed is printed. TEST_PYTHON names another interpreter with what the make target installs.
set -euo pipefail
checkout=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
python=$(realpath -s "${TEST_PYTHON:-.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$checkout" ]; then
    checkout=$work/tianshou
    git -c advice.detachedHead=false clone --quiet --depth 1 --branch v2.0.1 https://github.com/thu-ml/tianshou "$checkout"
fi
mkdir "$work/swapped"
cp -r "$checkout/test" "$checkout/examples" "$work/swapped/"
export PYTHONPATH=$work/swapped:$PWD
export SDL_VIDEODRIVER=${SDL_VIDEODRIVER-dummy}  # the high-level test draws what it watches
cd "$work/swapped"

echo "== the lines that are changed"
swapped=(
    test/continuous/test_trpo.py test/continuous/test_npg.py test/highlevel/test_experiment_builder.py
    examples/mujoco/mujoco_trpo.py examples/mujoco/mujoco_npg.py
    examples/mujoco/mujoco_trpo_hl.py examples/mujoco/mujoco_npg_hl.py
)
sed -i -E \
    -e 's/^from tianshou\.algorithm import (TRPO|NPG)$/from trpo_ts import \1/' \
    -e 's/^from tianshou\.highlevel\.params\.algorithm_params import (TRPO|NPG)Params$/from trpo_ts.highlevel import \1Params/' \
    -e '/^    (TRPO|NPG)ExperimentBuilder,$/d' \
    -e '/^from tianshou\.highlevel\.experiment import \($/i from trpo_ts.highlevel import NPGExperimentBuilder, TRPOExperimentBuilder' \
    "${swapped[@]}"
# This one gives an argument that Tianshou's TRPOParams does not have either: with Tianshou alone it ends in a TypeError.
# The examples beside it say return_scaling.
sed -i 's/return_standardization=/return_scaling=/' examples/mujoco/mujoco_trpo_hl.py
# Its tests of the collector, with the class of this package in its place.
collecting=(test/base/test_collector.py test/base/test_env_finite.py)
sed -i -E \
    -e '/^    Collector,$/d' -e 's/^(from tianshou\.data import Batch, )Collector, /\1/' \
    -e '0,/^from tianshou\.env /s//from trpo_ts.collectors import RolloutCollector as Collector\n&/' "${collecting[@]}"
swapped+=("${collecting[@]}")
for file in "${swapped[@]}"; do
    if diff -U0 "$checkout/$file" "$file" > "$work/changes"; then
        echo "$file has no import to swap: is the checkout Tianshou 2.0.1?" >&2
        exit 1
    fi
    echo "$file"
    grep '^[-+] *[a-zA-Z]' "$work/changes"
done

echo "== tests"
"$python" -m pytest -q -p no:cacheprovider "${collecting[@]}"
"$python" -m pytest -q -p no:cacheprovider test/continuous/test_trpo.py test/continuous/test_npg.py
"$python" -m pytest -q -p no:cacheprovider test/highlevel/test_experiment_builder.py -k "TRPO or NPG"

echo "== examples: two epochs of 2048 steps each"
short=(--task "${TASK:-HalfCheetah-v4}" --epoch_num_steps 2048 --persistence_base_dir "$work/log")
"$python" examples/mujoco/mujoco_trpo.py "${short[@]}" --epoch 2
"$python" examples/mujoco/mujoco_npg.py "${short[@]}" --epoch 2
"$python" examples/mujoco/mujoco_trpo_hl.py "${short[@]}" --max_epochs 2
"$python" examples/mujoco/mujoco_npg_hl.py "${short[@]}" --max_epochs 2
echo "== all ran"
