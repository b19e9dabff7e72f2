#!/bin/sh
# Installs the browser in which the report's page is tested: Debian's package. Needs root, or sudo.
set -eu
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
run apt-get update -qq
run apt-get install -y --no-install-recommends chromium fonts-dejavu-core
chromium --version
