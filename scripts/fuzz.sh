#!/bin/sh
# SPDX-License-Identifier: MIT
# Run the fuzzers of a folder that was set up with -Dfuzz=true, two at once, for
# a number of inputs that is always the same.  Each must find nothing, and its
# twin with a fault must find that.  What is found is printed, with how to see it.
#
# usage: fuzz.sh BUILD_FOLDER [FACTOR]	(FACTOR: so many times the inputs)
set -eu

build=$(realpath "$1")
factor=${2:-1}
out=$build/fuzz
mkdir -p "$out"

# fuzz NAME INPUTS BYTES SEED: 0 when nothing was found.
fuzz() {
	mkdir -p "$out/corpus-$1"
	PROPERTY_SEEDS=$out/corpus-$1 "$build/tests/property/$1" -runs="$2" -max_len="$3" -len_control=20 -seed="$4" \
		-print_final_stats=1 -rss_limit_mb=4096 -timeout=60 \
		-artifact_prefix="$out/$1-" "$out/corpus-$1" \
		>"$out/$1.log" 2>&1
}

# check NAME TEST INPUTS BYTES
check() {
	rm -rf "$out/corpus-$1-fuzzer-broken"
	if fuzz "$1-fuzzer-broken" "$3" "$4" 1; then
		echo "$1: the fault was not found"
		return 1
	fi
	if ! grep -q 'tests/property/.*: ' "$out/$1-fuzzer-broken.log"; then
		tail -n 20 "$out/$1-fuzzer-broken.log"
		echo "$1: something else than the fault was found"
		return 1
	fi
	if fuzz "$1-fuzzer" "$(($3 * factor))" "$4" 1; then
		grep -E '^Done|stat::(number|new)' "$out/$1-fuzzer.log"
		echo "$1: nothing was found; the fault of the twin was"
		return 0
	fi
	grep -v '^#[0-9]*[[:space:]]' "$out/$1-fuzzer.log" | tail -n 60
	for input in "$out/$1-fuzzer-"*; do
		case $input in *-broken-*) continue ;; esac
		echo "$1: to see it step by step:"
		printf 'PROPERTY_INPUT=%s build/tests/%s-test \\\n%s\n' \
			"$(od -An -v -tx1 "$input" | tr -d ' \n')" \
			"$2" '	holds_in_the_examples'
	done
	return 1
}

export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
rm -f "$out"/*-crash-* "$out"/*-timeout-* "$out"/*-leak-* "$out"/*-oom-*

check notifier notifier-property 30000 300 &
pid=$!
status=0
check fence fence-property 15000 200 || status=1
if [ -x "$build/tests/property/classify-fuzzer" ]; then
	check classify source-classify-property 150000 64 || status=1
fi
wait $pid || status=1
exit $status
