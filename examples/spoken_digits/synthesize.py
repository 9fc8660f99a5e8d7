"""Generate the spoken digits that are part of skastw: ten digits, twenty synthetic voices, two takes each.

Needs espeak-ng 1.51 (``apt-get install espeak-ng``). The voices are formant synthesis, not recordings of people.

    python examples/spoken_digits/synthesize.py --out skastw/datasets/data/spoken_digits
"""

from __future__ import annotations

import argparse
import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile

from skastw.audio import resample

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLE_RATE = 16000

# name: accent + variant, pitch (0-99), speed (words per minute)
VOICES = {
    "adam": ("en-us+adam", 45, 150),
    "alicia": ("en-gb+Alicia", 55, 165),
    "andrea": ("en-us+Andrea", 60, 140),
    "andy": ("en-gb-scotland+Andy", 50, 170),
    "annie": ("en-gb-x-rp+Annie", 62, 155),
    "belinda": ("en-us-nyc+belinda", 58, 175),
    "boris": ("en-gb-x-gbclan+boris", 35, 135),
    "david": ("en-us+david", 48, 160),
    "denis": ("en-029+Denis", 44, 150),
    "ed": ("en-gb-x-gbcwmd+ed", 40, 145),
    "gene": ("en-us+Gene", 38, 180),
    "henrique": ("en-gb+Henrique", 52, 165),
    "jacky": ("en-us+Jacky", 46, 155),
    "linda": ("en-gb-scotland+linda", 64, 150),
    "marco": ("en-us+Marco", 42, 170),
    "mario": ("en-gb-x-rp+mario", 36, 160),
    "michael": ("en-us-nyc+michael", 47, 140),
    "steph": ("en-gb+steph", 66, 165),
    "sue": ("en-029+f4", 56, 145),
    "zac": ("en-us+zac", 50, 175),
}
# for each take: factor of the speed, difference of the pitch
TAKES = ((1.0, 0), (0.82, 9))


def speak(text: str, voice: str, pitch: int, speed: int) -> np.ndarray:
    """Return a word as a waveform at 16 kHz, without silence before and after it."""
    command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "--stdout", text]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    loud = np.flatnonzero(np.abs(samples) > 0.005)
    margin = round(0.02 * rate)
    samples = samples[max(0, loud[0] - margin) : loud[-1] + margin]
    return 0.7 * resample(samples, rate, SAMPLE_RATE)  # headroom for the errors of the lossy codec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write digit_voice_take.ogg files to")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, (voice, pitch, speed) in VOICES.items():
        for take, (faster, higher) in enumerate(TAKES):
            for digit, word in enumerate(DIGITS):
                waveform = speak(word, voice, pitch + higher, round(speed * faster))
                path = folder / f"{digit}_{name}_{take}.ogg"
                soundfile.write(path, waveform, SAMPLE_RATE, format="OGG", subtype="VORBIS", compression_level=1.0)
    size = sum(path.stat().st_size for path in folder.glob("*.ogg"))
    print(f"{len(list(folder.glob('*.ogg')))} files, {size / 1e6:.2f} MB in {folder}")


if __name__ == "__main__":
    main()
