"""Data sets: recordings in the package, public sets with their official folds, your own, and generated ones."""

from skastw.datasets.audio_folder import load_audio_folder
from skastw.datasets.audio_table import load_audio_table
from skastw.datasets.describe import AudioDescription, describe_audio
from skastw.datasets.fetch import dataset_names, fetch_dataset
from skastw.datasets.spoken_digits import load_spoken_digits
from skastw.datasets.tones import make_tones

__all__ = [
    "AudioDescription",
    "dataset_names",
    "describe_audio",
    "fetch_dataset",
    "load_audio_folder",
    "load_audio_table",
    "load_spoken_digits",
    "make_tones",
]
