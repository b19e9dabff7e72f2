"""From a trained ONNX network to a spiking one: frontend, passes, artefact."""

from snnc.compiler.checking import check as check
from snnc.compiler.checking import examine as examine
from snnc.compiler.checking import read_convertible as read_convertible
from snnc.compiler.conversion import Conversion as Conversion
from snnc.compiler.conversion import Tuned as Tuned
from snnc.compiler.conversion import Tuner as Tuner
from snnc.compiler.conversion import convert as convert
from snnc.compiler.simulating import simulate as simulate
from snnc.compiler.tasks import tasks_of as tasks_of
from snnc.conversion_options import LEARNING as LEARNING
from snnc.conversion_options import Options as Options
from snnc.conversion_options import alternatives as alternatives
from snnc.conversion_options import unlearned as unlearned
