"""Data sets: real recordings in the package, and generated ones."""

from skastw.datasets.spoken_digits import load_spoken_digits
from skastw.datasets.tones import make_tones

__all__ = ["load_spoken_digits", "make_tones"]
