"""sinabs on NIR bundles, spike by spike, and what its neurons' rules cost.

python benchmarks/consumers/verify_sinabs.py
"""

import sys

from nir_consumer import main

if __name__ == "__main__":
    sys.exit(main("sinabs"))
