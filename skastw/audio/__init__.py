"""Load clips of all supported forms as mono float32 waveforms at one sample rate."""

from skastw.audio.clips import as_clips, clip_path, is_array_input, load_samples, load_waveform
from skastw.audio.decode import decode
from skastw.audio.isolation import isolated_decoding
from skastw.audio.limits import LIMITS, Limits
from skastw.audio.resample import resample
from skastw.audio.stream import stream_waveform

__all__ = [
    "LIMITS",
    "Limits",
    "as_clips",
    "clip_path",
    "decode",
    "is_array_input",
    "isolated_decoding",
    "load_samples",
    "load_waveform",
    "resample",
    "stream_waveform",
]
