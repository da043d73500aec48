# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled once, whatever the environment says of it: the tests start hundreds of processes.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --dist loadfile
export DAGSTER_HOME := $(CURDIR)/.dagster
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: demo demo-scenes ui test test-slow test-postgres gpu-check check docs format acceptance browser setup train train-scenes release clean

demo: setup ## explain the two persona classifiers and print where the reports are
	$(BIN)/diffex run avatars

demo-scenes: setup ## the second world: explain the two urban/rural classifiers, edits drawn without error
	$(BIN)/diffex run scenes --editor exact

ui: setup ## the Dagster UI on http://127.0.0.1:3000
	$(BIN)/dagster dev -w workspace.yaml

test: setup browser check ## lint, types, and the tests, but for those marked `slow`: a quarter of an hour on two cores
	$(PYTEST) -n 3 -m "not slow"

test-slow: setup browser ## the others: servers, daemons and clusters at work, benchmarks, every kind of change: a quarter of an hour
	$(PYTEST) -n 3 -m slow

test-postgres: setup browser ## all tests of the store and of the stages with rows in PostgreSQL, where the others have DuckDB
	$(PYTEST) -n 2 tests/store tests/stages --results postgres

gpu-check: setup ## on a machine with a CUDA device: every check that needs one, in under 8 minutes
	@# A bare machine needs of diffex_dagster's dependencies, beside this checkout: torch (with CUDA), diffusers,
	@# transformers, accelerate, safetensors, pydantic, numpy and pillow; no Dagster. With ray, duckdb, ruamel.yaml,
	@# tenacity and cachetools beside them, two workers are measured too, and are left out or fail otherwise. There,
	@# without `make`: python3 -m diffex_dagster.bench.gpu_check --json gpu.json
	$(BIN)/python -m diffex_dagster.bench.gpu_check --json docs/figures/gpu.json

check: setup docs ## lint, types, import contracts, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dagster definitions validate -w workspace.yaml --log-level warning

docs: setup ## the documentation site in build/site; a broken link or reference fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

release: setup ## wheel and sdist in dist/, their metadata checked, each installed in an empty environment; then the extras
	rm -rf dist build/empty
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/twine check --strict dist/*
	for file in dist/*; do \
		$(PYTHON) -m venv --clear build/empty && \
		build/empty/bin/python -m pip install --quiet --constraint constraints.txt "$$file" && \
		build/empty/bin/diffex --version || exit 1; \
	done
	@# without lpips and timm, which bring a torchvision that has to fit the torch of the machine
	for extra in buckets gradcam heic lora offload onnx postgres ray ui worlds; do \
		build/empty/bin/python -m pip install --quiet --constraint constraints.txt "$$(ls dist/*.whl)[$$extra]" || exit 1; \
	done
	cd build && empty/bin/diffex doctor

acceptance: setup ## what `make demo` must have shown
	$(BIN)/pytest tests/acceptance.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@# without the torchvision that they ask for: their tests put a stand-in in that place
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt timm lpips
	touch $@

browser: setup ## a Chromium for the tests that look at pages
	sh tests/install_chromium.sh $(BIN)/python
	sh tests/install_postgres.sh

train: setup ## train the demo checkpoint, probe and classifiers again (about four hours on two cores)
	$(BIN)/python -m training.samples
	$(BIN)/python -m training.vae
	$(BIN)/python -m training.vae --polish 5000
	$(BIN)/python -m training.text
	$(BIN)/python -m training.unet
	$(BIN)/python -m training.unet --cycle 2 --steps 3500 --rate 4e-4
	$(BIN)/python -m training.unet --cycle 3 --steps 4000 --rate 3e-4 --described 0.6 --text-rate 0.1
	$(BIN)/python -m training.unet --cycle 4 --steps 1500 --rate 2e-4 --described 0.7 --text-rate 0.1
	$(BIN)/python -m training.probe
	$(BIN)/python -m training.assemble
	$(BIN)/python -m training.personas
	$(BIN)/python -m training.rules
	$(BIN)/python -m training.evaluate --write
	$(BIN)/python -m training.card

train-scenes: setup ## train the classifiers of the scenes study again; its checkpoint needs a GPU (training/scenes_gpu.py)
	$(BIN)/python -m training.samples --world scenes
	$(BIN)/python -m training.scenes_classifiers

clean:
	rm -rf $(VENV) studies/*/results
