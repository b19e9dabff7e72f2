"""The spiking dialect: what the converted network computes, step by step.

Two precisions share the node types. Before quantisation the arrays are float32, in units of the
model; afterwards they are integers (weights int8, identity weights int16, biases, thresholds and
potentials int32) and every simulator gives the same spikes, bit for bit. The unit ``u`` of a
population's spikes, per channel, is folded into the weights that read them, so that a current is
``sum w s`` with the plain integer ``s``.

A value is one of two kinds. *Spikes*: small integers that change from step to step. *Currents*:
sums of weighted spikes, which only populations and the read-out consume.
"""

from snnc.ir.counts import CountFunction as CountFunction
from snnc.ir.counts import CountMatrixProduct as CountMatrixProduct
from snnc.ir.counts import CountMaximum as CountMaximum
from snnc.ir.counts import CountMaxPool as CountMaxPool
from snnc.ir.counts import CountNormalisation as CountNormalisation
from snnc.ir.counts import CountProduct as CountProduct
from snnc.ir.counts import CountSoftmax as CountSoftmax
from snnc.ir.counts import Function as Function
from snnc.ir.kinds import SnnNode as SnnNode
from snnc.ir.problems import MOST_BREAKPOINTS as MOST_BREAKPOINTS
from snnc.ir.snn.delay import MOST_DELAY as MOST_DELAY
from snnc.ir.snn.delay import Delay as Delay
from snnc.ir.snn.encoder import INPUT_LIMIT as INPUT_LIMIT
from snnc.ir.snn.encoder import Encode as Encode
from snnc.ir.snn.encoder import Presented as Presented
from snnc.ir.snn.graph import SnnGraph as SnnGraph
from snnc.ir.snn.pooling import CurrentMaxPool as CurrentMaxPool
from snnc.ir.snn.pooling import SumPool as SumPool
from snnc.ir.snn.population import IntegrateFire as IntegrateFire
from snnc.ir.snn.readout import Readout as Readout
from snnc.ir.snn.reshaping import Concat as Concat
from snnc.ir.snn.reshaping import Gather as Gather
from snnc.ir.snn.reshaping import Pad as Pad
from snnc.ir.snn.reshaping import Reshape as Reshape
from snnc.ir.snn.reshaping import Slice as Slice
from snnc.ir.snn.synapses import ChannelWeight as ChannelWeight
from snnc.ir.snn.synapses import ConstantCurrent as ConstantCurrent
from snnc.ir.snn.synapses import Convolution as Convolution
from snnc.ir.snn.synapses import Linear as Linear
from snnc.ir.snn.synapses import Weighted as Weighted

Operation = (
    Encode
    | Convolution
    | Linear
    | ChannelWeight
    | ConstantCurrent
    | SumPool
    | CountMaxPool
    | CountProduct
    | CountMatrixProduct
    | CountSoftmax
    | CountNormalisation
    | CountMaximum
    | CurrentMaxPool
    | Concat
    | Reshape
    | Pad
    | Slice
    | Gather
    | Delay
    | IntegrateFire
    | Readout
)
"""Every kind of node of the spiking dialect."""
