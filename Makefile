# Every target works from a bare checkout: .venv makes itself, and the host's missing programs are
# installed (as root or with sudo) or named with the command to type.

KERNEL ?= 6.12
VARIANT ?= plain
BOARD ?= virt
LAYOUT ?= default
ARGS ?=
GUESTS ?= 2

CELL = --kernel $(KERNEL) --variant $(VARIANT) --board $(BOARD) --layout $(LAYOUT)
BIN = .venv/bin
READY = .venv/.ready
SUITES = kmod/cma_kunit tests/target

# Where compiled modules are not kept, each run compiles all of them again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: host help test-arm test lint types unit line target contract coverage console ssh debug \
	test-mutants bench nightly clean

help: ## show this
	@echo 'make TARGET [KERNEL=6.12|PATH] [BOARD=virt] [LAYOUT=default] [ARGS=...]'
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 14

test-arm: $(READY) ## the main job: build a kernel, boot it, run the suites on it
	$(BIN)/cma-harness test $(CELL) $(ARGS)

test: lint types unit line target ## what CI runs: checks, tests without a guest, tests on guests

lint: $(READY) ## style, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY) ## mypy --strict
	$(BIN)/mypy

unit: $(READY) ## tests without a guest
	$(BIN)/pytest -q tests/unit

line: $(READY) ## the harness itself on real guests: verdicts, records, failures
	$(BIN)/pytest -q tests/line

target: $(READY) ## the contract but for what takes long, and the KUnit suites on the default cell
	$(BIN)/cma-harness test $(CELL) --layout contract -n $(GUESTS) -m 'not long' $(ARGS) $(SUITES)
	$(BIN)/cma-harness test $(CELL) $(ARGS) kmod/cma_kunit

contract: $(READY) ## the whole contract of CMA, and its ten slowest cases
	$(BIN)/cma-harness test $(CELL) --layout contract -n $(GUESTS) --durations=10 $(ARGS) $(SUITES)

# A red case (1) decides too, but is no reason to keep the coverage back.
COUNTED = $(CELL) --variant coverage --layout contract -n $(GUESTS) $(ARGS) $(SUITES)
coverage: $(READY) ## which lines of the allocator the whole contract executes
	@$(BIN)/cma-harness test $(COUNTED); red=$$?; [ $$red -gt 1 ] || $(BIN)/cma-harness coverage && exit $$red

console: $(READY) ## boot a guest and talk to its serial console; Ctrl-] leaves
	@$(BIN)/cma-harness console $(CELL) $(ARGS)

ssh: $(READY) ## boot a guest and run COMMAND='...' on it
	@$(BIN)/cma-harness ssh $(CELL) $(COMMAND)

debug: $(READY) ## boot a guest and attach gdb to it
	@$(BIN)/cma-harness gdb $(CELL) $(ARGS)

test-mutants: $(READY) ## kernels broken on purpose: which case notices; [ARGS='--file mm/cma.c']
	$(BIN)/cma-harness mutants $(CELL) --layout contract --jobs $(GUESTS) $(ARGS)

bench: $(READY) ## how fast it is, beside kunit.py and raw QEMU; on an idle machine; [BUILDS=1]
	$(BIN)/cma-harness bench $(CELL) $(if $(BUILDS),--builds) $(ARGS)

nightly: $(READY) ## what configs/nightly.toml asks for; [PART=kernels|boards|exact|studies|layouts|isolated|debug|repeat]
	$(BIN)/cma-harness nightly $(addprefix --part=,$(PART)) $(ARGS)

clean: ## drop .venv and the records; the cache stays ('cma-harness cache prune')
	rm -rf .venv runs

host:
	@python3 -m harness.host

# requirements.lock: uv pip compile --universal --python-version 3.11 --generate-hashes \
#     --no-emit-index-url --extra dev pyproject.toml -o requirements.lock
$(READY): requirements.lock pyproject.toml | host
	@echo 'venv     .venv from requirements.lock'
	@python3 -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
