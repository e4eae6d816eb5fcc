#!/usr/bin/env bash
# Try the wheel on the other Pythons that the project promises and this machine has; say which, and which not.
#
#     tools/other_pythons.sh WHEEL
#
# By default without torch, which may bring gigabytes of CUDA: types, syntax, and the parts that need none of it.
# ALL_PYTHONS=1 installs everything and trains.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$1
trial=$(mktemp -d)
trap 'rm -rf "$trial"' EXIT

# Print the path of an interpreter that runs: python3.N itself, or one that pyenv keeps.
interpreter() {
    local candidate
    for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if [ -n "$candidate" ] && "$candidate" -c "import ensurepip" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

for version in 3.12 3.13; do
    python=$(interpreter $version)
    .venv/bin/python -m mypy --python-version $version
    if [ -z "$python" ]; then
        echo "== Python $version: types only, no interpreter here"
        continue
    fi
    "$python" -m venv "$trial/$version"
    pip="$trial/$version/bin/python -m pip install --quiet -c constraints.txt"
    if [ -n "${ALL_PYTHONS:-}" ]; then
        $pip torch
        $pip "$wheel"
        (cd "$trial" && "$trial/$version/bin/trpo-ts" train --steps 20000 --out "run_$version" >/dev/null)
        echo "== Python $version: installed, and trained"
    else
        $pip numpy gymnasium
        $pip --no-deps "$wheel"
        "$trial/$version/bin/python" -m compileall -q "$trial/$version"/lib/python*/site-packages/trpo_ts
        (cd "$trial" && "$trial/$version/bin/python" -c "import trpo_ts.envs, trpo_ts.presets")
        echo "== Python $version: types, syntax, and what needs no torch; ALL_PYTHONS=1 installs torch and trains"
    fi
done
