"""SpikingJelly on NIR bundles, spike by spike, and what its neurons' rules cost.

python benchmarks/consumers/verify_spikingjelly.py                       # networks converted here
python benchmarks/consumers/verify_spikingjelly.py NETWORK.snn.onnx ...  # others
"""

import sys

from nir_consumer import main

if __name__ == "__main__":
    sys.exit(main("spikingjelly"))
