#!/bin/sh
# SPDX-License-Identifier: MIT
# Install a build to a folder of its own and use it as a stranger would: in C
# and in C++, shared and static, and with its manual.
#
# usage: check.sh BUILD_FOLDER FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1
rm -rf "$2"
mkdir -p "$2"
dest=$(cd "$2" && pwd)

DESTDIR=$dest meson install -C "$build" --no-rebuild --quiet
pc=$(find "$dest" -name libmmn.pc)
[ -n "$pc" ] || { echo 'libmmn.pc is not installed' >&2; exit 1; }
export PKG_CONFIG_SYSROOT_DIR="$dest" PKG_CONFIG_PATH="${pc%/*}"
lib=$(pkg-config --variable=libdir libmmn)

consume() {
	name=$1
	shift
	echo "$name"
	# shellcheck disable=SC2046 # flags are words
	"$@" -Wall -Wextra -Werror -o "$dest/$name" "$here/consumer.c" \
		$(pkg-config --cflags --libs libmmn)
	LD_LIBRARY_PATH=$lib "$dest/$name" | grep -x "$(pkg-config \
		--modversion libmmn)"
}

consume c11 cc -std=c11 -pedantic
consume c17-clang "${CLANG:-clang}" -std=c17 -pedantic
consume cpp17 c++ -x c++ -std=c++17 -pedantic
consume cpp20 c++ -x c++ -std=c++20 -pedantic

# Plugins load it late: its thread-local storage must fit into what libc keeps
# free for that.
LD_LIBRARY_PATH=$lib python3 -c 'import ctypes; ctypes.CDLL("libmmn.so.0")'

# Nothing but the interface is installed.
find "$dest" -path '*/include/*' -name '*.h' | while read -r header; do
	case $header in
	*/include/mmn/*.h) ;;
	*) echo "installed where it should not be: $header" >&2; exit 1 ;;
	esac
done
if [ -e "$dest/bin/mmn" ] || find "$dest" -path '*/bin/mmn' | grep -q .; then
	LD_LIBRARY_PATH=$lib "$(find "$dest" -path '*/bin/mmn')" --version
fi
# A page for every function: by its own name, or as a link to one.
pages=$(find "$dest" -name "mmn*.3" | wc -l)
[ -e "$(find "$dest" -name mmn_range_read_begin.3)" ] || {
	echo "no page for mmn_range_read_begin among $pages" >&2
	exit 1
}
echo ok
