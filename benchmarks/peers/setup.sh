#!/usr/bin/env bash
# Make one virtual environment for each peer under build/peers:
#
#     benchmarks/peers/setup.sh [NAME...]      # all of them without names
#
# PYTHON names the interpreter, 3.11 or newer. What is installed already is left alone.
set -euo pipefail

TORCH="torch==2.13.0"
ALL="spikingjelly sinabs snntorch"

requirement() {
    case "$1" in
        spikingjelly) echo "spikingjelly==2.0.0" ;;
        sinabs) echo "sinabs==3.1.3" ;;
        snntorch) echo "snntorch==1.0.0 numpy" ;; # which it needs, but does not name
        *) echo "setup.sh: no peer is called '$1'; known: $ALL" >&2; return 1 ;;
    esac
}

install() {
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
}

make_environment() {
    local name="$1" wanted folder
    wanted="$(requirement "$name")"
    folder="$ROOT/build/peers/$name"
    if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$TORCH $wanted" ]; then
        echo "$name: $wanted is installed"
        return
    fi
    echo "$name: installing $TORCH and $wanted into build/peers/$name"
    mkdir -p "$folder"
    rm -f "$folder/.installed"
    # The peer would bring the newest torch along: so torch comes first, and is named again to stay.
    if "${PYTHON:-python3}" -m venv "$folder" && install "$folder" "$TORCH" \
        && install "$folder" "$TORCH" $wanted && "$folder/bin/python" -c "import torch, $name"; then
        echo "$TORCH $wanted" > "$folder/.installed"
        return
    fi
    echo "setup.sh: could not install $name; see the message above, and run this again when it is mended" >&2
    return 1
}

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
for name in ${*:-$ALL}; do
    requirement "$name" > /dev/null
done
for name in ${*:-$ALL}; do
    make_environment "$name"
done
