"""Learning after the conversion: classes are added behind a cut, and every edit can be taken back."""

from snnc.adaptation.adapting import Adapted as Adapted
from snnc.adaptation.adapting import adapt as adapt
from snnc.adaptation.adapting import revoke as revoke
from snnc.adaptation.buffer import ReplayBuffer as ReplayBuffer
from snnc.adaptation.buffer import read_buffer as read_buffer
from snnc.adaptation.options import Options as Options
from snnc.adaptation.options import head_of as head_of
from snnc.adaptation.requirements import adaptation_of as adaptation_of
from snnc.adaptation.requirements import require_fit as require_fit
