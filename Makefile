# Each target makes .venv when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin

# Entries whose cards come with the package; three seeds, or one.
CARDS_OF_3 := lift:T5 lift:T6 lpt:T1 lpt:T8 lt-dpt:T4 hlc:T4 hlc:F6 ballad:T7
CARDS_OF_1 := lift:T7 lift:T15 lift:T16 lift:F4 lift:F9 lpt:T2 lpt:T18 hlc:T6 ballad:T8

.PHONY: demo test check bench lab stress reproduce reproduce-smoke real real-text real-tuners real-prompts real-hlc
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: .venv/installed  ## the tour, executed, and its report in runs/demo; minutes
	$(BIN)/workbench demo

test: .venv/installed  ## check, then the quick tests, then the slow ones
	$(MAKE) check
	$(BIN)/python -m pytest -m "not slow and not stress" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m "slow and not stress" --ignore tests/browser -n 2 --dist worksteal
	$(BIN)/python -m pytest -m "slow and not stress" tests/browser

check: .venv/installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed  ## measured ratios on this machine, a few minutes
	$(BIN)/python -m tests.bench

stress: .venv/installed  ## 20 kills at random steps
	$(BIN)/python -m pytest -m stress

lab: .venv/installed  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

reproduce: .venv/installed  ## the parity cards of the papers' tables on the toybox world; resumable, hours on two cores
	$(BIN)/python -m tests.toybox_calibration
	$(BIN)/workbench reproduce $(CARDS_OF_3)
	$(BIN)/workbench reproduce $(CARDS_OF_1) --seeds 1

reproduce-smoke: .venv/installed  ## every table and figure with one epoch and six classes: whether it runs
	$(BIN)/workbench reproduce all --smoke --out runs/smoke

real: .venv/installed  ## the table of README on real photographs; resumable, more than an hour on two cores
	$(BIN)/python -m tests.real_photos

real-text: .venv/installed  ## LIFT begun from CLIP's vectors of class names, on real photographs; resumable, half an hour
	$(BIN)/python -m tests.real_text

real-tuners: .venv/installed  ## other tuners on real photographs, a short recipe; resumable, an hour on two cores
	$(BIN)/python -m tests.real_tuners

real-prompts: .venv/installed  ## prompt methods on real photographs, a short recipe; resumable, an hour on two cores
	$(BIN)/python -m tests.real_prompts

real-hlc: .venv/installed  ## HLC's re-ranking on real photographs with CLIP's vectors of class names; resumable, minutes
	$(BIN)/python -m tests.real_hlc
