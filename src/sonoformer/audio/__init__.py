"""Files <-> waveforms: probe, decode, resample, windows of long recordings, write. No torch."""

from sonoformer.audio.clock import clock, recorded_at
from sonoformer.audio.decode import Channel, read, read_native
from sonoformer.audio.find import AUDIO_SUFFIXES, find
from sonoformer.audio.probe import AudioInfo, probe
from sonoformer.audio.resample import resample
from sonoformer.audio.stream import Window, stream
from sonoformer.audio.write import write

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "Channel",
    "Window",
    "clock",
    "find",
    "probe",
    "read",
    "read_native",
    "recorded_at",
    "resample",
    "stream",
    "write",
]
