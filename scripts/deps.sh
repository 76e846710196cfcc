#!/bin/sh
# SPDX-License-Identifier: MIT
# Install the Debian packages that are missing for some of these purposes:
#
#	build	compile and run libmmn
#	check	run its tests
#	ci	everything that .ci/run does
#	bench	what the benchmarks compare with, none of it is needed
#
# usage: deps.sh {build|check|ci|bench}...
set -eu

build='gcc libc6-dev meson ninja-build pkg-config liburcu-dev
       liburing-dev libzydis-dev systemtap-sdt-dev python3'
check="$build g++ mandoc perl procps"
ci="$check clang libclang-rt-dev clang-format clang-tidy cppcheck sparse codespell
    shellcheck git gcovr valgrind gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    qemu-user"
bench=libucx-dev

wanted=
for purpose; do
	case $purpose in
	build) wanted="$wanted $build" ;;
	check) wanted="$wanted $check" ;;
	ci) wanted="$wanted $ci" ;;
	bench) wanted="$wanted $bench" ;;
	*)
		echo "deps.sh: unknown purpose $purpose" >&2
		exit 2
		;;
	esac
done

if ! command -v dpkg-query >/dev/null; then
	# shellcheck disable=SC2086 # a list of words
	echo "This is not Debian. libmmn needs what Debian calls:" $wanted
	exit 0
fi

missing=
for package in $wanted; do
	case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || :) in
	*' installed') ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null; then
	as_root=sudo
else
	echo "These packages are missing, and only root can install them:" >&2
	echo "	apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # both are lists of words
install() {
	$as_root apt-get install -y -qq --no-install-recommends $missing \
		</dev/null >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A new machine has no package lists yet.
install || { $as_root apt-get update -qq >"$log" 2>&1 && install; } || {
	cat "$log" >&2
	echo "deps.sh: could not install:$missing" >&2
	exit 1
}
