#!/bin/sh
# SPDX-License-Identifier: MIT
# Make a folder from which libmmn is built for arm64 and its tests are run by
# qemu: Debian's arm64 libraries, unpacked there and not installed, and
# cross.ini for meson.
#
# usage: cross-arm64.sh FOLDER
set -eu

packages='liburcu-dev liburcu8 liburing-dev liburing2'

mkdir -p "$1"
cd "$1"
top=$PWD
libs=$top/root/usr/lib/aarch64-linux-gnu

# Lists and a cache of our own: the machine's know its own architecture only.
mkdir -p apt/lists/partial apt/cache/archives/partial root
: >apt/status
apt_arm64() {
	apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
		-o APT::Sandbox::User=root -o Dir::State="$top/apt" \
		-o Dir::State::lists="$top/apt/lists" \
		-o Dir::State::status="$top/apt/status" \
		-o Dir::Cache="$top/apt/cache" "$@"
}
apt_arm64 update
# shellcheck disable=SC2086 # a list of words
apt_arm64 download $packages
for package in ./*.deb; do
	dpkg-deb -x "$package" root
done

cat >cross.ini <<END
[binaries]
c = 'aarch64-linux-gnu-gcc'
cpp = 'aarch64-linux-gnu-g++'
ar = 'aarch64-linux-gnu-gcc-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu',
  '-E', 'LD_LIBRARY_PATH=$libs']

[properties]
sys_root = '$top/root'
pkg_config_libdir = '$libs/pkgconfig'

[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
END
