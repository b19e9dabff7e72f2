"""Recordings of event cameras: their files, and the frames that networks take."""

from __future__ import annotations

from snnc.events.formats import SUFFIXES, open_recording, told_sensor
from snnc.events.frames import EventFrames, accumulated, streamed
from snnc.events.recording import EVENT, Recording

__all__ = [
    "EVENT",
    "EventFrames",
    "Recording",
    "SUFFIXES",
    "accumulated",
    "open_recording",
    "streamed",
    "told_sensor",
]
