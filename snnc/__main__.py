"""``python -m snnc``: the command line."""

import sys

from snnc.cli import main

if __name__ == "__main__":
    sys.exit(main())
