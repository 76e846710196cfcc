# SPDX-License-Identifier: MIT
# The short way; everything is done by meson. See README.md.

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
# What `make run` runs: make run PROGRAM="perl script.pl"
PROGRAM ?= python3 examples/memory-workout.py
RUN_FLAGS ?=

# Self-checks would be measured too: benchmarks have a build of their own.
BENCH_BUILD ?= build-bench
FIGURES ?= $(BENCH_BUILD)/figures

TESTLOG = $(BUILD)/meson-logs/testlog.json

.PHONY: all deps build run check check-long bench bench-build figures install ordering \
	abi clean help

all: build

help:
	@echo 'make deps      install the packages that are missing (Debian)'
	@echo 'make build     build the library and the mmn command in $(BUILD)/'
	@echo 'make run       mirror a live python3 program, and report'
	@echo '               (PROGRAM="..." for another one, RUN_FLAGS="...")'
	@echo 'make check     build and run all tests'
	@echo 'make check-long  1e8 operations of the notifier leave nothing behind,'
	@echo '               and races of fences as often as the specification has them;'
	@echo '               ten minutes of torture, five of the cache alone, and 1e7'
	@echo '               gets from it'
	@echo 'make bench     print the benchmarks, each a ratio in one process, and'
	@echo '               draw figures in FIGURES=$(FIGURES)/'
	@echo 'make figures   draw those of doc/ anew'
	@echo 'make install   install below PREFIX=$(PREFIX), DESTDIR is honoured'
	@echo 'make ordering  write doc/ORDERING.md anew'
	@echo 'make abi       write doc/abi/layout.txt anew'
	@echo 'make clean     remove $(BUILD)/ and $(BENCH_BUILD)/'

deps:
	@scripts/deps.sh build check

$(BUILD)/build.ninja:
	@scripts/deps.sh build
	@echo 'setting up $(BUILD)/'
	@meson setup $(BUILD) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

run: build
	$(BUILD)/src/cmd/mmn run $(RUN_FLAGS) -- $(PROGRAM)

check: deps build
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs; status=$$?; \
	scripts/test-summary.py --list $(TESTLOG) && exit $$status

check-long: build
	T_OPERATIONS=100000000 $(BUILD)/tests/notifier-count-test \
		many_operations_leave_nothing_behind
	T_OPERATIONS=10000000 $(BUILD)/tests/cache-stress-test
	export T_FULL=1 T_TIMEOUT_SCALE=10; \
	$(BUILD)/tests/fence-core-test after_removal_a_callback_does_not_run && \
	$(BUILD)/tests/fence-pool-test readers_find_what_was_in_the_slot && \
	$(BUILD)/tests/fence-container-test \
		a_long_chain_is_dropped_with_a_small_stack \
		a_long_chain_signals_with_a_small_stack
	$(BUILD)/src/cmd/mmn torture --seconds 600 --stat-interval 10
	$(BUILD)/src/cmd/mmn torture --seconds 300 --disturb none cache

$(BENCH_BUILD)/build.ninja:
	@scripts/deps.sh build
	@scripts/deps.sh bench || echo 'not compared with UCX'
	@meson setup $(BENCH_BUILD) --buildtype=release >$(BENCH_BUILD).log 2>&1 || \
		{ cat $(BENCH_BUILD).log; exit 1; }
	@rm -f $(BENCH_BUILD).log

bench-build: $(BENCH_BUILD)/build.ninja
	@ninja -C $(BENCH_BUILD) --quiet

bench: bench-build
	@meson test -C $(BENCH_BUILD) --no-rebuild --benchmark --verbose --suite bench
	@for table in scale cache; do \
		scripts/plot.py $(BENCH_BUILD)/$$table.tsv $(FIGURES) || exit 1; \
	done

figures: bench-build
	@$(BENCH_BUILD)/bench/scale-bench 2 $(BENCH_BUILD)/scale.tsv
	@$(BENCH_BUILD)/bench/cache-bench 10 $(BENCH_BUILD)/cache.tsv
	@for table in scale cache; do \
		scripts/plot.py $(BENCH_BUILD)/$$table.tsv doc/figures || exit 1; \
		cp $(BENCH_BUILD)/$$table.tsv doc/figures/$$table.tsv; \
	done

install: build
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --quiet
	@echo 'installed below $(DESTDIR)$(abspath $(PREFIX))'

ordering:
	@scripts/check-pairs.py --markdown >doc/ORDERING.new
	@mv doc/ORDERING.new doc/ORDERING.md

abi:
	@scripts/check-abi.py --write

clean:
	@rm -rf $(BUILD) $(BENCH_BUILD)
