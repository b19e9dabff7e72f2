#!/bin/sh
# Installs the programs that blocks of the documentation call, as Debian has them. Needs root, or sudo.
set -eu
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
run apt-get update -qq
run apt-get install -y --no-install-recommends gcc libc6-dev cmake make \
    gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib qemu-system-arm
qemu-system-arm --version
