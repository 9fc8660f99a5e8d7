"""Data sets: recordings in the package, public sets with their official folds, your own, and generated ones."""

from skastw.datasets.audio_folder import load_audio_folder
from skastw.datasets.audio_table import load_audio_table
from skastw.datasets.describe import describe_audio
from skastw.datasets.description import AudioDescription
from skastw.datasets.emodb import fetch_emodb
from skastw.datasets.esc50 import fetch_esc50
from skastw.datasets.fsdd import fetch_fsdd
from skastw.datasets.minds14 import fetch_minds14
from skastw.datasets.named import load_named
from skastw.datasets.ravdess import fetch_ravdess
from skastw.datasets.speech_commands import fetch_speech_commands
from skastw.datasets.spoken_digits import load_spoken_digits
from skastw.datasets.tones import make_tones
from skastw.datasets.urbansound8k import fetch_urbansound8k

__all__ = [
    "AudioDescription",
    "describe_audio",
    "fetch_emodb",
    "fetch_esc50",
    "fetch_fsdd",
    "fetch_minds14",
    "fetch_ravdess",
    "fetch_speech_commands",
    "fetch_urbansound8k",
    "load_audio_folder",
    "load_audio_table",
    "load_named",
    "load_spoken_digits",
    "make_tones",
]
