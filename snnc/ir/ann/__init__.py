"""The ANN dialect: what a trained feed-forward network computes, in 32-bit floats.

Feature maps are ``(channels, height, width)``, whatever layout the exporter wrote; vectors are
``(features,)``. Padding is zero. All arrays are float32.
"""

from snnc.ir.ann.activations import ROUNDINGS as ROUNDINGS
from snnc.ir.ann.activations import Activation as Activation
from snnc.ir.ann.activations import Levelled as Levelled
from snnc.ir.ann.activations import Pointwise as Pointwise
from snnc.ir.ann.activations import Relu as Relu
from snnc.ir.ann.activations import Softmax as Softmax
from snnc.ir.ann.functions import InnerSoftmax as InnerSoftmax
from snnc.ir.ann.functions import MatrixProduct as MatrixProduct
from snnc.ir.ann.functions import Maximum as Maximum
from snnc.ir.ann.functions import MaxPool as MaxPool
from snnc.ir.ann.functions import Normalisation as Normalisation
from snnc.ir.ann.functions import Product as Product
from snnc.ir.ann.graph import AnnGraph as AnnGraph
from snnc.ir.ann.linear import Add as Add
from snnc.ir.ann.linear import AveragePool as AveragePool
from snnc.ir.ann.linear import BatchNormalisation as BatchNormalisation
from snnc.ir.ann.linear import ChannelAffine as ChannelAffine
from snnc.ir.ann.linear import Convolution as Convolution
from snnc.ir.ann.linear import Linear as Linear
from snnc.ir.ann.node import AnnNode as AnnNode
from snnc.ir.ann.node import Constant as Constant
from snnc.ir.ann.node import Input as Input
from snnc.ir.ann.reshaping import Concat as Concat
from snnc.ir.ann.reshaping import Gather as Gather
from snnc.ir.ann.reshaping import Pad as Pad
from snnc.ir.ann.reshaping import Reshape as Reshape
from snnc.ir.ann.reshaping import Slice as Slice

AnnOperation = (
    Input
    | Constant
    | Convolution
    | Linear
    | BatchNormalisation
    | ChannelAffine
    | Relu
    | Pointwise
    | Product
    | MatrixProduct
    | Normalisation
    | InnerSoftmax
    | Maximum
    | AveragePool
    | MaxPool
    | Add
    | Concat
    | Reshape
    | Pad
    | Slice
    | Gather
    | Softmax
)
"""Every kind of node of the ordinary dialect."""
