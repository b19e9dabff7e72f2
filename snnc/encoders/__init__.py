"""Sound as spikes: matching pursuit on a dictionary, and send-on-delta."""

from __future__ import annotations

from snnc.encoders.delta import delta_spikes
from snnc.encoders.dictionary import Dictionary, gammatones
from snnc.encoders.learning import learned
from snnc.encoders.mel import log_mel
from snnc.encoders.spiketrum import Spiketrum, encoded

__all__ = ["Dictionary", "Spiketrum", "delta_spikes", "encoded", "gammatones", "learned", "log_mel"]
