PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
C_SOURCES = $(shell git ls-files -co --exclude-standard '*.c' '*.h' '*.cc')

export TF_CPP_MIN_LOG_LEVEL ?= 2
export CUDA_VISIBLE_DEVICES ?=

.PHONY: demo test lint format accuracy benchmark clean

# Trains, prunes, exports and runs LeNet-300-100 on the virtual Cortex-M4; out/demo/report.json.
demo: $(VENV)/.demo
	$(BIN)/scalpel-tf demo --out out/demo

test: lint
	$(BIN)/python -m pytest -q

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(C_SOURCES),$(BIN)/clang-format --dry-run -Werror $(C_SOURCES))

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(C_SOURCES),$(BIN)/clang-format -i $(C_SOURCES))

# Test errors of the committed LeNet-300-100 weights, before and after int8, on the whole of MNIST.
accuracy: $(VENV)/.test
	$(BIN)/python benchmarks/lenet_300_100.py --json out/lenet_300_100.json

# Cycles, instructions and bytes on the virtual Cortex-M4, beside the dense kernels.
benchmark: $(VENV)/.test
	$(BIN)/python benchmarks/cortex_m.py --network lenet-300-100 --json out/cortex_m.json

$(VENV)/.demo $(VENV)/.test: $(VENV)/.%: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache
	find scalpel_tf tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
