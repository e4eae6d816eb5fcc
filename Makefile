# Set-up and checks. Every target makes its own environment in .venv if there is none.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH := .venv/.installed-bench

.PHONY: demo notebooks test walk nightly tianshou-tests bench lint types wheel site clean

demo: $(STAMP)
	$(BIN)/python examples/point_mass.py --out runs/point_mass

# Executes the scripts in examples/ that are notebooks, and writes the notebooks. Images need Chromium or Chrome.
notebooks: $(STAMP)
	$(BIN)/python tools/notebooks.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What a new user sees, with Chromium: the commands of README.md in turn, the demo, the notebooks, the site. Ten minutes.
walk: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,mujoco]"
	$(BIN)/python -m pytest -m "slow or not slow" tests/integration/test_new_user.py tests/examples tests/reports tests/docs

# All tests, the slow ones too, and the properties on ten times as many cases, other ones each time. About a quarter of an hour.
nightly: $(STAMP)
	$(BIN)/python -m pytest --hypothesis-profile=nightly -m "slow or not slow"

# Needs network, or a checkout of Tianshou 2.0.1: make tianshou-tests TIANSHOU=PATH
tianshou-tests: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[tianshou-tests]"
	tools/tianshou_tests.sh $(TIANSHOU)

# An hour or so; nothing else should run.
bench: $(BENCH)
	$(BIN)/python benchmarks/speed.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# The documentation as pages to browse, build/site/index.html; a broken link, a page out of the navigation
# and anything that a reader's browser would fetch from elsewhere are errors.
site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	! grep -rlE --include='*.html' '<(script|link|img)[^>]* (src|href)="(https?:)?//' build/site

wheel: $(STAMP)
	$(BIN)/python -m build --no-isolation --wheel

clean:
	rm -rf build dist *.egg-info runs

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	# torch first and pinned: an open range would take gigabytes of CUDA packages.
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	touch $(BENCH)
