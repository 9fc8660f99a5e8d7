"""From whatever a user calls a clip to one mono float32 waveform at one sample rate."""

from skastw.audio.clips import as_clips, clip_path, is_array_input, load_waveform
from skastw.audio.decode import decode
from skastw.audio.resample import resample

__all__ = ["as_clips", "clip_path", "decode", "is_array_input", "load_waveform", "resample"]
