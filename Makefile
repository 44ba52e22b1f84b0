# Two commands are enough: `make demo` and `make test`. Everything is installed into .venv by the first of them.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONPATH :=

.PHONY: install demo test test-all test-gpu bench-gpu lint bench bench-faults soak clean

install: .venv/installed

# Runs again only when the declared packages change.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@$(BIN)/python -c "import cv2" 2> .venv/cv2.log || { \
	  grep -qE "libGL|libgthread|libglib|libxcb|libSM|libXext" .venv/cv2.log || { cat .venv/cv2.log; exit 1; }; \
	  version=$$($(BIN)/python -c "from importlib.metadata import version; print(version('opencv-python'))"); \
	  echo "opencv-python misses a system library here ($$(tail -n 1 .venv/cv2.log)):"; \
	  echo "replacing it by opencv-python-headless $$version, the same library without windows"; \
	  $(BIN)/python -m pip uninstall --quiet --yes opencv-python; \
	  $(BIN)/python -m pip install --quiet "opencv-python-headless==$$version"; \
	  $(BIN)/python -c "import cv2"; }
	@touch $@

demo: install
	BIN=$(BIN) sh examples/demo.sh

# A process a core with one thread each: most tests are Python, and threads of several processes get in each other's way.
WORKERS ?= auto
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile

test: install
	$(PYTEST)

test-all: install
	$(PYTEST) -m "slow or not slow"

# On a machine with a CUDA device, with the Python that holds PyTorch; nothing is installed. SITE: a folder of further
# packages (docs/speed.md).
#   make test-gpu bench-gpu PYTHON=python3 SITE=/tmp/site OUT=results
SITE ?=
OUT ?= benchmarks/results
PARTS ?= kernel,network,video,training
test-gpu:
	PYTHONPATH=$(CURDIR):$(SITE) $(PYTHON) -m pytest -m cuda tests/test_cuda.py tests/test_train.py tests/models/test_adaptive_triton.py tests/video/test_decoders.py

bench-gpu:
	PYTHONPATH=$(CURDIR):$(SITE) $(PYTHON) benchmarks/gpu.py --out $(OUT) --only $(PARTS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy posecli

bench: install
	BIN=$(BIN) sh benchmarks/run.sh

# Kills each kind of run twenty times; `make test-all` does so five times.
bench-faults: install
	POSECLI_KILLS=20 $(PYTEST) -m slow tests/test_faults.py

# Half an hour of generated video: memory and descriptors stay flat. `make test-all` looks at three minutes.
soak: install
	$(BIN)/python benchmarks/soak.py

clean:
	rm -rf .venv build dist *.egg-info
