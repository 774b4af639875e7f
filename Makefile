# SPDX-License-Identifier: LGPL-2.1-or-later
# `make` alone tells what there is. All of it works in a fresh clone; each target installs what it needs first.

PREROOT := .venv/bin/preroot
PYTHON := .venv/bin/python
# One worker a processor; what is run side by side is mostly waiting for an emulated machine.
PYTEST := .venv/bin/pytest -q -n auto --dist worksteal
OUTPUT := build/demo

.PHONY: help setup demo test test-all unit lint bench docs clean

help:
	@echo 'make demo      build an initrd from Debian packages and boot it in QEMU'
	@echo 'make test      linters and tests; make test-all: the whole matrix; make unit: the quick ones'
	@echo 'make setup     install what demo and test need (Debian 12 or 13, root or sudo); leaves .venv/bin/preroot'
	@echo 'make lint      the linters alone'
	@echo 'make bench     measure against dracut, initramfs-tools and mkosi-initrd; QUICK=1: preroot alone'
	@echo 'make docs      write the generated pages of docs/ anew'
	@echo 'make clean     remove what was built and .venv'

setup:
	@scripts/setup demo test

demo:
	@scripts/setup demo
	$(PREROOT) build --output $(OUTPUT)
	$(PREROOT) boot $(OUTPUT)/preroot.initrd

test: setup lint
	$(PYTEST) -m 'not matrix' tests/unit tests/build tests/boot

test-all: setup lint
	$(PYTEST) tests/unit tests/build tests/boot

unit: setup
	$(PYTEST) tests/unit

lint: setup
	@scripts/lint

bench:
	@scripts/setup demo bench
	$(PYTHON) -m bench.run $(if $(QUICK),--quick) $(BENCH)

docs: setup
	@$(PYTHON) scripts/docs.py

clean:
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
