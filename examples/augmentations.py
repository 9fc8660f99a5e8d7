"""Draw a spoken digit after each augmentation.

python examples/augmentations.py --output exports/augmentations.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import soundfile

from skastw.augment import Audiomentations, Augment, NestedAugment
from skastw.core.component import component_names, resolve_component
from skastw.datasets import load_spoken_digits
from skastw.plots import AugmentationDisplay

SAMPLE_RATE = 16000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("exports/augmentations.png"))
    parser.add_argument("--seed", type=int, default=24, help="seed of the augmentations")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        hum = write_hum(Path(folder) / "hum.wav")
        augmentations = [resolve_component(Augment, name) for name in component_names("augment")]
        augmentations = [item for item in augmentations if not isinstance(item, NestedAugment | Audiomentations)]
        for item in augmentations:
            if item.name.endswith("background"):
                item.set_params(paths=[hum])
        display = AugmentationDisplay.from_clip(
            spoken("seven", 0), augmentations, partner=spoken("three", 20), random_state=arguments.seed
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    display.figure_.savefig(arguments.output, dpi=110)
    print(f"wrote {arguments.output}")


def spoken(digit: str, take: int) -> str:
    """Return the path of a recording of a digit."""
    clips = load_spoken_digits()
    return [path for path, target in zip(clips.data, clips.target, strict=True) if target == digit][take]


def write_hum(path: Path) -> Path:
    """Write two seconds of mains hum, as an example of a background recording."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    partials = [np.sin(2 * np.pi * 100 * k * time) / k for k in range(1, 30)]
    soundfile.write(path, 0.1 * np.sum(partials, axis=0), SAMPLE_RATE)
    return path


if __name__ == "__main__":
    main()
