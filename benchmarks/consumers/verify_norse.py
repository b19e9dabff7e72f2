"""Norse on NIR bundles, spike by spike, and what its neurons' rules cost.

python benchmarks/consumers/verify_norse.py                       # networks converted here
python benchmarks/consumers/verify_norse.py NETWORK.snn.onnx ...  # others
"""

import sys

from nir_consumer import main

if __name__ == "__main__":
    sys.exit(main("norse"))
