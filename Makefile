PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TF_VERSIONS ?= python3.11=2.21.0 python3.10=2.16.2 python3.12=2.19.1
BAZEL_STUBS = rules_cc rules_java remote_coverage_tools
C_SOURCES = $(shell git ls-files -co --exclude-standard '*.c' '*.h' '*.cc')

export TF_CPP_MIN_LOG_LEVEL ?= 2
export CUDA_VISIBLE_DEVICES ?=

.PHONY: demo test tflm surgery node_pruning mlperf_tiny docs lint format accuracy benchmark benchmark_cpu fuzz exact native tf_versions bazel clean

# Trains, prunes, exports and runs LeNet-300-100 on the virtual Cortex-M4; out/demo/report.json.
demo: $(VENV)/.demo $(VENV)/.ops
	$(BIN)/scalpel-tf demo --out out/demo

test: lint $(VENV)/.ops
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

# Rewritten models in a TensorFlow Lite Micro tree of yours, beside the originals, bit for bit. Its
# own makefile has to have made `microlite` in it; TFLM_LIBRARY is the library elsewhere.
tflm: $(VENV)/.test
	$(BIN)/python tests/tflm_tree.py --tflm $(TFLM_DIR) $(if $(TFLM_LIBRARY),--library $(TFLM_LIBRARY))

# Surgery on every network of keras.applications, three seeds each; takes hours.
surgery: $(VENV)/.test
	$(BIN)/python -m pytest -v tests/train/test_surgery.py

# Test errors of the committed node-pruned networks; needs all of MNIST and CIFAR-10.
node_pruning: $(VENV)/.test
	$(BIN)/python benchmarks/paper/node_pruning.py --evaluate --json out/node_pruning.json

# The documentation, out/site/index.html: every reference checked, nothing from elsewhere in it.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	! grep -rlE '<(script|img|iframe|link rel="?stylesheet)[^>]*(src|href)="?(https?:)?//' out/site --include='*.html'

# The tables and figures of the Scalpel paper, from the committed checkpoints, beside what is
# published; out/paper. Minutes, on a machine that does nothing else. TRAIN=1 trains all of them
# first, which takes many hours. Needs all of MNIST, Fashion-MNIST and CIFAR-10.
CHECKPOINTS := $(if $(TRAIN),out/paper/checkpoints,benchmarks/checkpoints)
paper: $(VENV)/.test $(VENV)/.benchmark
ifdef TRAIN
	$(BIN)/python benchmarks/lenet_300_100.py --train --folder $(CHECKPOINTS)
	$(BIN)/python benchmarks/lenet_300_100.py --dataset fashion_mnist --train --folder $(CHECKPOINTS)/fashion_mnist
	$(BIN)/python benchmarks/paper/node_pruning.py --train --folder $(CHECKPOINTS)
	$(BIN)/python benchmarks/paper/weight_pruning.py --folder $(CHECKPOINTS)
	$(BIN)/python benchmarks/paper/weight_pruning.py --dataset fashion_mnist --networks lenet_300_100 --folder $(CHECKPOINTS)/fashion_mnist
	$(BIN)/python benchmarks/paper/folds.py --folder $(CHECKPOINTS)/folds
endif
	$(BIN)/python benchmarks/paper/paper.py --split test --folder $(CHECKPOINTS) --out out/paper --page docs/paper.md

# MLPerf Tiny's ResNet-8 and DS-CNN on the virtual Cortex-M4, from the committed weights. Needs all of
# CIFAR-10, and Debian's espeak-ng and flite, which say the words where SPEECH has none: the speech
# is synthesised. TRAIN=1 trains the networks first, which takes hours.
SPEECH ?= out/speech
TINY := $(if $(TRAIN),out/mlperf_tiny,benchmarks/checkpoints/mlperf_tiny)
mlperf_tiny: $(VENV)/.test
	test -f $(SPEECH)/speech.npz || $(BIN)/python benchmarks/mlperf_tiny/speech.py --out $(SPEECH)
	$(if $(TRAIN),$(BIN)/python benchmarks/mlperf_tiny/runs.py --speech $(SPEECH) --folder $(TINY))
	$(BIN)/python benchmarks/mlperf_tiny/report.py --split test --speech $(SPEECH) --folder $(TINY) \
	  --json out/mlperf_tiny.json --page docs/mlperf_tiny.md

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

# Cycles, instructions and bytes on the virtual Cortex-M4, beside the dense kernels; seconds of the
# sparse kernels on this CPU, beside every library that is installed.
benchmark: $(VENV)/.test $(VENV)/.benchmark
	$(BIN)/python benchmarks/cortex_m.py --network all --json out/cortex_m.json
	$(BIN)/python benchmarks/cpu_kernels.py --json out/cpu_kernels.json --plots docs

# The layers of real networks on this CPU, beside those of other runtimes, and then whole networks;
# takes long.
benchmark_cpu: $(VENV)/.benchmark
	$(BIN)/python benchmarks/cpu_layers.py --json out/cpu_layers.json
	$(BIN)/python benchmarks/cpu_networks.py --json out/cpu_networks.json
	$(BIN)/python benchmarks/cpu_int8.py --json out/cpu_int8.json

# Malformed calls of the C++ ops under the sanitizers.
fuzz: $(VENV)/.test
	$(BIN)/python tests/fuzz_ops.py --cases 50000

$(VENV)/.demo $(VENV)/.test $(VENV)/.benchmark $(VENV)/.docs: $(VENV)/.%: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

# Random networks as libraries for this machine beside LiteRT, and the kernels under the sanitizers.
native: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/test_native.py

# Thousands of random int8 operators against TensorFlow Lite's reference kernels, bit for bit.
exact: $(VENV)/.test
	$(BIN)/python tests/exactness.py --json out/exactness.json

# One library of the C++ ops under several TensorFlows, each in a virtual environment of its own.
tf_versions:
	$(PYTHON) tests/tf_versions.py --venvs out/tf_versions $(TF_VERSIONS)

# The library as BUILD makes it, and the C++ tests; offline, by Debian's bazel-bootstrap.
bazel: $(VENV)/.test
	PYTHON_BIN_PATH=$(CURDIR)/$(BIN)/python bazel --output_user_root=$(CURDIR)/out/bazel test \
	  $(foreach stub,$(BAZEL_STUBS),--override_repository=$(stub)=$(CURDIR)/bazel/stubs/$(stub)) \
	  --symlink_prefix=out/bazel- --nosandbox_debug --test_output=errors \
	  //:scalpel_tf_ops //:kernels_test //:check_test
	SCALPEL_TF_PY_OPS=1 $(BIN)/python bazel/load.py out/bazel-bin/libscalpel_tf_ops.so

# The C++ ops, which the package falls back from to plain TensorFlow where they are missing.
$(VENV)/.ops: $(wildcard custom_ops/*.cc custom_ops/*.h) | $(VENV)/.demo
	$(BIN)/scalpel-tf build
	touch $@

clean:
	rm -rf scalpel_tf/lib $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache
	find scalpel_tf tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
