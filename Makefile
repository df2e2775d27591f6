# Two commands on a fresh machine with Python and make:
#   make demo    install, then put a persona on an invented wearer: demo.mp4
#   make test    the same environment with the development tools, all tests
# And on Debian, with QEMU:
#   make test-vm the program between a real webcam driver and Chromium, OBS and others, in a virtual machine
PYTHON ?= python3
VENV   ?= .venv
# Processes that share the tests; each wants a core and 2 GB.
WORKERS ?= 2
BIN    := $(VENV)/bin

# OpenCV's wheel needs two libraries of the system; a container run as root can get them by itself.
define SYSTEM_LIBRARIES
{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libgl1 libglib2.0-0 >/dev/null && $(BIN)/python -c 'import cv2'; } \
  || { echo 'OpenCV needs two system libraries: sudo apt-get install libgl1 libglib2.0-0'; exit 1; }
endef

.PHONY: demo test test-vm lint clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(SYSTEM_LIBRARIES)
	touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/base.stamp
	$(BIN)/personacam demo --out demo.mp4 --score --json

test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Neither torch nor the other development tools are needed in the guest.
$(VENV)/vm.stamp: $(VENV)/base.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'pytest>=8'
	touch $@

test-vm: $(VENV)/vm.stamp
	$(BIN)/python -m tests.vm.machine setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/vm -m vm --vm-json build/vm.json

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info
