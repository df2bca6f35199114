# The project's commands. `make` alone lists them. ENV is the virtual environment they run in.
ENV    ?= .venv
PYTHON ?= python3
DALLE  := $(ENV)/bin/dalle
READY  := $(ENV)/.ready
LIBTPU := $(ENV)/tpu/.ready
CUDA   := $(ENV)/cuda/.ready
PARITY := .venv-parity/.ready
DEMO   ?= runs/demo
LONG   ?= runs/demo-long
EMOJI  ?= runs/demo-emoji

# Tests run in two processes; the one that has none left takes some of the other's.
SPREAD := -n 2 --dist worksteal --durations=30
# What the fast tests compile runs for less time than it would take to make it fast.
QUICK = $$($(ENV)/bin/python tests/support/quick.py)
# Slow ones are handed out by the file, whose fixtures are then set up once.
SPREAD_FILES := -n 2 --dist loadfile --no-loadscope-reorder --durations=50
# MINUTES=30: none is begun later, and what is left out is told.
BOX := $(if $(MINUTES),--minutes $(MINUTES))

# Of the demo: scenes, captions of each split that are drawn, and steps other than the experiment's, such as
# STEPS="--transformer-steps 4200".
SCENES := --train 10000
STEPS  ?=
BRIEF  := --captions 200

# A short demo, to see that everything runs: SMOKE=1.
ifdef SMOKE
SCENES := --train 600 --valid 60 --test 60 --test-pairs 60
STEPS  := --dvae-steps 30 --transformer-steps 30 --clip-steps 20
BRIEF  := --captions 6 --samples 4
endif

.DEFAULT_GOAL := help
.PHONY: help env libtpu gpu-compiler test test-slow test-packs test-long test-parity test-faults launch-checkers test-gpu \
  lint format golden pictures lock demo demo-long demo-emoji bench bench-attention bench-peers clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(READY)  ## make $(ENV) from requirements.lock

$(READY): requirements.lock setup.cfg
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv -q --allow-existing --python $(PYTHON) $(ENV) && \
	  uv pip install -q --python $(ENV)/bin/python --require-hashes -r requirements.lock && \
	  uv pip install -q --python $(ENV)/bin/python --no-deps -e .; \
	else \
	  $(PYTHON) -m venv $(ENV) && \
	  $(ENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(ENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .; \
	fi
	@touch $(READY)

libtpu: $(LIBTPU)  ## put libtpu beside the environment: it compiles for TPUs that are not here, and no program loads it

$(LIBTPU): requirements-libtpu.lock $(READY)
	$(call beside,tpu,requirements-libtpu.lock)

gpu-compiler: $(CUDA)  ## put JAX's CUDA plugin beside it: it compiles for GPUs that are not here, and no program loads it

$(CUDA): requirements-cuda.lock $(READY)
	$(call beside,cuda,requirements-cuda.lock)

# Installs what a lock file names into a folder of its own, $(1), beside the environment's packages.
define beside
@if command -v uv >/dev/null 2>&1; then \
  uv pip install -q --python $(ENV)/bin/python --no-deps --require-hashes --target $(ENV)/$(1) -r $(2); \
else \
  $(ENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes --upgrade \
    --target $(ENV)/$(1) -r $(2); \
fi
@mkdir -p $(ENV)/$(1) && touch $(ENV)/$(1)/.ready
endef

test: $(READY) $(LIBTPU) $(CUDA)  ## lint and run every test but the slow ones
	@$(ENV)/bin/python -c "import sys, jax; print('Python', sys.version.split()[0], 'jax', jax.__version__)"
	$(ENV)/bin/ruff check . && $(ENV)/bin/ruff format --check .
	XLA_FLAGS="$(QUICK) $$XLA_FLAGS" $(ENV)/bin/python -m pytest -m "not slow and not gpu and not faults and not parity" $(SPREAD)

test-slow: $(READY) $(LIBTPU) $(CUDA)  ## run the slow tests: kills and resumes, training a tiny model (MINUTES=30: begin none later)
	$(ENV)/bin/python -m pytest -m "slow and not packs and not long and not gpu and not parity" $(SPREAD_FILES) $(BOX)

test-packs: $(READY)  ## run every pack of ablations at --scale smoke
	$(ENV)/bin/python -m pytest -m packs $(SPREAD) $(BOX)

test-long: $(READY) $(LIBTPU)  ## run what is too long for CI: the TPU kernels of all patterns for all chips
	$(ENV)/bin/python -m pytest -m long $(SPREAD)

test-parity: $(READY) $(PARITY)  ## compare with the official PyTorch modules, from PyPI in .venv-parity
	PYTHONPATH=$$(.venv-parity/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
	  $(ENV)/bin/python -m pytest -m parity $(SPREAD)

# Their own packages and no others: NumPy and the like are those of $(ENV). pip takes PyTorch's build for CPUs where one
# is offered. YouTokenToMe comes as source alone, and its setup imports Cython without asking for it.
$(PARITY): requirements-parity.txt
	@[ -x .venv-parity/bin/python ] || $(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check Cython==3.3.1 setuptools==80.10.2 wheel==0.45.1
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-parity.txt
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation youtokentome==1.0.6
	@touch $(PARITY)

test-faults: $(READY)  ## break what runs, and write down what becomes of it (FULL=1: more of it; KILLS=6: fewer kills than 20)
	@mkdir -p runs && : > runs/faults.jsonl
	FULL=$(FULL) KILLS=$(KILLS) $(ENV)/bin/python -m pytest -m faults -s $(BOX)
	$(ENV)/bin/python tests/support/figures.py runs/faults.jsonl

launch-checkers:  ## put what checks launch/ (Kubernetes' schemas, XPK, SkyPilot; 0.9 GB) into .venv-launch, for its tests
	@[ -x .venv-launch/bin/python ] || $(PYTHON) -m venv .venv-launch
	.venv-launch/bin/python -m pip install -q --disable-pip-version-check kubernetes-validate==1.37.0 xpk==1.16.0 skypilot==0.14.1

test-gpu: $(READY)  ## run the tests that need an NVIDIA GPU (of compute capability 9.0, with dalle-jax[cuda] installed)
	@JAX_PLATFORMS=cuda,cpu $(ENV)/bin/python -c "import jax; jax.devices('cuda')" >/dev/null 2>&1 || \
	  { echo "make test-gpu wants an NVIDIA GPU and dalle-jax[cuda], and JAX finds none" >&2; exit 2; }
	JAX_PLATFORMS=cuda,cpu timeout 900 $(ENV)/bin/python -m pytest -m gpu

lint: $(READY)  ## ruff, without changing anything
	$(ENV)/bin/ruff check . && $(ENV)/bin/ruff format --check .

format: $(READY)  ## ruff, changing the files
	$(ENV)/bin/ruff check --fix . && $(ENV)/bin/ruff format .

demo: $(READY)  ## in minutes: train on captioned scenes, draw from captions never seen, write $(DEMO)/index.html
	@[ -d $(DEMO)-data ] || $(DALLE) data prepare captioned_scenes --out $(DEMO)-data $(SCENES)
	$(DALLE) train experiments/demo.py --workdir $(DEMO) --data $(DEMO)-data $(STEPS)
	$(DALLE) eval $(DEMO) $(BRIEF)

demo-long: $(READY)  ## meant for an hour: the same at 64x64 pixels, longer
	@[ -d $(LONG)-data ] || $(DALLE) data prepare captioned_scenes --out $(LONG)-data --image 64 --train 30000
	$(DALLE) train experiments/demo_long.py --workdir $(LONG) --data $(LONG)-data
	$(DALLE) eval $(LONG)

demo-emoji: $(READY)  ## meant for half an hour: train on emoji and their names (needs Debian's font and annotations)
	@[ -d $(EMOJI)-data ] || $(DALLE) data prepare emoji --out $(EMOJI)-data
	$(DALLE) train experiments/demo_emoji.py --workdir $(EMOJI) --data $(EMOJI)-data
	$(DALLE) eval $(EMOJI)

bench: $(READY)  ## time the train step, the sampler and the attention of a small transformer on this machine
	$(DALLE) bench train-step
	for batch in 1 8 32; do $(DALLE) bench sample --batch $$batch || exit; done
	$(DALLE) bench attention

bench-attention: $(READY) $(LIBTPU) $(CUDA)  ## attention: times here, cycles on TPUs and registers on GPUs that are not here
	$(DALLE) bench attention
	$(DALLE) bench tpu-cycles
	$(DALLE) bench gpu-registers

bench-peers: $(READY)  ## the same beside DALLE-pytorch, in a virtual environment of its own (downloads torch)
	@[ -x .venv-peers/bin/python ] || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -q --disable-pip-version-check torch==2.13.0
	.venv-peers/bin/python -m pip install -q --disable-pip-version-check --no-deps -r benchmarks/peers/requirements.txt
	$(ENV)/bin/python benchmarks/peers/compare.py --peer-python .venv-peers/bin/python --out runs/bench-peers.json

pictures: $(READY)  ## draw the attention patterns for the documentation
	$(ENV)/bin/python -m dalle_jax.pattern_pictures src/dalle_jax/ops/sparse_attention/patterns.png

golden: $(READY)  ## write experiments/golden from the experiment files
	$(ENV)/bin/python -m dalle_jax.golden

lock:  ## resolve setup.cfg anew into requirements.lock (needs uv)
	{ echo '# Pinned versions for Python 3.11 to 3.13, made from setup.cfg by `make lock`.'; \
	  uv pip compile -q --universal --python-version 3.11 --fork-strategy requires-python --extra dev \
	    --no-header --no-annotate --generate-hashes setup.cfg; } > requirements.lock.new && mv requirements.lock.new requirements.lock
	{ echo '# libtpu for the jax of requirements.lock, made from setup.cfg by `make lock`.'; \
	  uv pip compile -q --universal --python-version 3.11 --fork-strategy requires-python --extra tpu -c requirements.lock \
	    --no-header --no-annotate --generate-hashes setup.cfg | awk '/^[a-z]/ {keep = /^libtpu==/} keep' \
	    | sed -E "/^libtpu/ s/(python_full_version [<>=]+ '3.12')/\1 and platform_system == 'Linux' and platform_machine == 'x86_64'/"; \
	} > requirements-libtpu.lock.new && mv requirements-libtpu.lock.new requirements-libtpu.lock
	{ echo '# What compiles for GPUs with the jax of requirements.lock, made from setup.cfg by `make lock`.'; \
	  uv pip compile -q --universal --python-version 3.11 --fork-strategy requires-python --extra cuda -c requirements.lock \
	    --no-header --no-annotate --generate-hashes setup.cfg \
	    | awk '/^[a-z]/ {keep = /^(jax-cuda12-(pjrt|plugin)|nvidia-cuda-nvcc-cu12)==/} keep' \
	    | sed -E "/^jax/ s/(python_full_version [<>=]+ '3.12')/\1 and platform_system == 'Linux' and platform_machine == 'x86_64'/" \
	    | sed -E "/^nvidia/ s/sys_platform == 'linux'/platform_system == 'Linux' and platform_machine == 'x86_64'/"; \
	} > requirements-cuda.lock.new && mv requirements-cuda.lock.new requirements-cuda.lock

clean:  ## remove the environment and what the demos made
	rm -rf $(ENV) .venv-parity .venv-peers runs
