# Everything a person, a hook, CI and the Dockerfile run. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo serve stop cluster cluster-stop programs test test-computing test-serving check triton-env bench bench-gpu audit image clean

PYTHON ?= python3.11
# Debian's: pytriton's own interpreter does not start under every 3.11.
TRITON_PYTHON ?= /usr/bin/python3.11
VENV ?= .venv
# dev for working on it, gpu for a server with CUDA, openvino or nothing for a server without.
EXTRAS ?= dev
BIN := $(VENV)/bin
# What runs servers takes the environment that is there, whatever it was made with, and makes one only where none is.
FIRST_SETUP := $(if $(wildcard $(VENV)/.*-done),,setup)
MODEL := resnext-mini
WEIGHTS := export/weights/$(MODEL).safetensors
DEMO := build/demo
CLIP ?= $(DEMO)/clip.mp4
# Threads that wait asleep: two programs on the same cores otherwise slow each other down many times over.
export OMP_WAIT_POLICY ?= passive

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(VENV)/.$(EXTRAS)-done ## Make the virtual environment with the pinned dependencies

$(VENV)/.$(EXTRAS)-done: pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or set PYTHON"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(if $(EXTRAS),[$(EXTRAS)])'
# Beside what it needs here it asks for torchvision, built for CUDA only, and for a second OpenCV in the first one's folder.
ifeq ($(EXTRAS),dev)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps grad-cam
# Its types are read, not run: none of what it wants is needed, and some of it in other versions than ours.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps kserve
endif
# onnxruntime and onnxruntime-gpu are one module in two builds: only one may be there.
ifeq ($(EXTRAS),gpu)
	$(BIN)/pip uninstall --quiet --yes onnxruntime onnxruntime-gpu
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'onnxruntime-gpu>=1.22'
endif
	touch $@

build/$(MODEL).onnx: $(WEIGHTS) $(shell find src/sum3dcam/export src/sum3dcam/models src/sum3dcam/attribution src/sum3dcam/*.py export -name '*.py') | $(FIRST_SETUP)
	$(BIN)/python export/to_onnx.py --model $(MODEL) --weights $(WEIGHTS) --output $@

model_store/$(MODEL).mar: build/$(MODEL).onnx handlers/sum3dcam_handler.py serve_config/model-config.yaml
	$(BIN)/python export/to_mar.py --artifact build/$(MODEL).onnx --name $(MODEL) --version 1.0 --output model_store/

$(DEMO)/clip.mp4: | $(FIRST_SETUP)
	$(BIN)/python -m sum3dcam.synthetic --output $(DEMO)/rendered --videos 4 --seed 2026 --difficulty full --frames 64
	cp $(DEMO)/rendered/videos/jumping_jack_00003.mp4 $@

demo: $(FIRST_SETUP) model_store/$(MODEL).mar $(CLIP) ## Export, archive, serve, ask over HTTP and gRPC, draw; CLIP=my.mp4 for your own
	mkdir -p $(DEMO)
	trap '$(BIN)/python -m sum3dcam.serving.launch stop --run-dir $(DEMO)/serve' EXIT; \
	$(BIN)/python -m sum3dcam.serving.launch start model_store/$(MODEL).mar --run-dir $(DEMO)/serve; \
	$(BIN)/sum3dcam predict "$(CLIP)" --url http://127.0.0.1:8080 --explain maps --method sum3dcam-elementwise \
		--overlay $(DEMO)/overlay.mp4 --contact-sheet $(DEMO)/overlay.png --json $(DEMO)/result.json; \
	$(BIN)/sum3dcam predict "$(CLIP)" --grpc 127.0.0.1:7070 --explain maps --method sum3dcam-elementwise \
		--json $(DEMO)/result.grpc.json > /dev/null; \
	cmp $(DEMO)/result.json $(DEMO)/result.grpc.json
	@echo "HTTP and gRPC gave the same answer. Look at $(DEMO)/overlay.mp4, $(DEMO)/overlay.png and $(DEMO)/result.json."

serve: $(FIRST_SETUP) model_store/$(MODEL).mar ## Serve all of model_store/ on HTTP 8080 and gRPC 7070 (loopback)
	$(BIN)/python -m sum3dcam.serving.launch start

stop: $(FIRST_SETUP) ## Stop the server that `make serve` started
	$(BIN)/python -m sum3dcam.serving.launch stop

cluster: PROGRAMS := $(or $(PROXY),nginx)
cluster: $(FIRST_SETUP) programs model_store/$(MODEL).mar ## Serve all of model_store/ twice behind nginx (PROXY=haproxy), HTTP 8000, gRPC 7000
	$(BIN)/python -m sum3dcam.serving.cluster start $(if $(PROXY),--proxy $(PROXY))

cluster-stop: $(FIRST_SETUP) ## Stop what `make cluster` started
	$(BIN)/python -m sum3dcam.serving.cluster stop

# What the container serves with: as serve_config/config.properties, but what clients, probes and scrapes ask listens
# on the pod's network.
build/pod.properties: serve_config/config.properties
	mkdir -p build
	sed -E '/^(inference|grpc_inference|metrics|exporter|health)_address=/s/127\.0\.0\.1/0.0.0.0/' $< > $@

triton-env: build/triton-env/.done ## Make the environment of handlers/sum3dcam_triton.py (0.9 GB)

build/triton-env/.done: serve_config/triton-requirements.txt
	$(TRITON_PYTHON) -c 'import ensurepip' || { echo "$(TRITON_PYTHON) with venv not found: apt-get install python3.11-venv, or set TRITON_PYTHON"; exit 1; }
	rm -rf $(@D)
	$(TRITON_PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	echo $(CURDIR)/src > $(@D)/lib/python3.11/site-packages/sum3dcam.pth
	touch $@

check: setup programs ## Lint, types, import rules, doctests, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest --doctest-modules src/sum3dcam
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m 'not e2e and not slow'

# Debian packages whose programs the tests start. Only root can install them; without one a test says what it lacks.
# RUNLEVEL=1 keeps their own services from being started; Debian's folder of daemons is not on everybody's path.
PROGRAMS := chromium nginx haproxy

programs:
	@PATH="$$PATH:/usr/sbin"; missing=$$(for one in $(PROGRAMS); do command -v $$one >/dev/null || echo $$one; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $$missing; \
	fi

test: check ## `make check`, then everything slow: full-size networks, a training, the real TorchServe
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-computing test-serving

# At once, with a core each: what computes all the time, and what mostly waits for servers.
test-computing test-serving: export OMP_NUM_THREADS := 1

test-computing:
	$(BIN)/pytest -m slow --durations=10

test-serving:
	$(BIN)/pytest -m 'e2e and not slow' --durations=10

bench: setup model_store/$(MODEL).mar ## Ten minutes: engines, peers and a served model; what moved since benchmarks/results
	$(BIN)/python benchmarks/engines.py --model $(MODEL) --peers --repeats 5 --output build/bench/engines-$(MODEL).json
	$(BIN)/python benchmarks/engines.py --model resnext101 --peers --repeats 3 --output build/bench/engines-resnext101.json
	$(BIN)/python benchmarks/serving.py --start model_store/$(MODEL).mar --input npy --load server --server-steps 2 \
		--load-seconds 4 --seconds 3 --rounds 2 --minutes 5 --output build/bench/serving.json
	$(BIN)/python benchmarks/report.py build/bench/engines-$(MODEL).json build/bench/engines-resnext101.json \
		build/bench/serving.json --against benchmarks/results --page build/bench/report.html

bench-gpu: setup ## The same for a GPU, with results for benchmarks/results; REQUIRE_GPU=1 fails where there is none
	$(BIN)/python benchmarks/engines.py --device cuda:0 --model resnext101 --formats .onnx,.pt --peers --compiled \
		--precisions fp32,bf16,fp16 --batch 1 --batch 32 --repeats 10 --output build/bench/engines-gpu.json
	$(BIN)/pytest tests/serving/test_cuda.py

# --strict: what it cannot ask about fails, too; without it a registry that does not answer looks like one that knows nothing.
AUDIT_FLAGS ?= --strict

audit: ## Ask PyPI for known vulnerabilities of every pinned package; needs the network
	test -x build/audit-env/bin/pip-audit || { $(PYTHON) -m venv build/audit-env && build/audit-env/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1; }
	for pins in constraints.txt serve_config/triton-requirements.txt; do \
		build/audit-env/bin/pip-audit $(AUDIT_FLAGS) --disable-pip --no-deps -r $$pins; \
	done

image: ## Build the container image; VARIANT=gpu for CUDA
	docker build $(if $(filter gpu,$(VARIANT)),--build-arg EXTRAS=gpu,--build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu) -t sum3dcam:$(or $(VARIANT),cpu) .

clean: ## Remove what was built, but not the virtual environment
	rm -rf build model_store/*.mar* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
