"""``python -m snnc``: the command line."""

import os
import sys

# `python -m` searches the current folder first, and that may be a bundle of somebody else's.
if sys.path and os.path.realpath(sys.path[0]) == os.path.realpath(os.curdir):
    del sys.path[0]

from snnc.cli import main

if __name__ == "__main__":
    sys.exit(main())
