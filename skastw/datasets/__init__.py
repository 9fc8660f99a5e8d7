"""Data sets: real recordings in the package, and generated ones."""

from skastw.datasets.audio_folder import load_audio_folder
from skastw.datasets.audio_table import load_audio_table
from skastw.datasets.describe import describe_audio
from skastw.datasets.description import AudioDescription
from skastw.datasets.spoken_digits import load_spoken_digits
from skastw.datasets.tones import make_tones

__all__ = [
    "AudioDescription",
    "describe_audio",
    "load_audio_folder",
    "load_audio_table",
    "load_spoken_digits",
    "make_tones",
]
