"""Draw one spoken digit, and what each augmentation makes of it.

python examples/augmentations.py --output exports/augmentations.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from skastw._component import component_names, resolve_component
from skastw.audio import load_waveform
from skastw.augment import Augment, Background, Transform
from skastw.batching import Batch, pad
from skastw.datasets import load_spoken_digits
from skastw.features import LogMel

SAMPLE_RATE = 16000
COLUMNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("exports/augmentations.png"))
    parser.add_argument("--seed", type=int, default=24, help="of the random draws")
    arguments = parser.parse_args()

    clip, partner = spoken("seven", 0), spoken("three", 60)
    panels = {"the clip": clip}
    for name in component_names("augment"):
        panels[name] = augmented(name, clip, partner, arguments.seed)

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    draw(panels).savefig(arguments.output, dpi=110)
    print(f"wrote {arguments.output}")


def spoken(digit: str, take: int) -> Tensor:
    """Return the log-mel frames of a recording of a digit."""
    clips = load_spoken_digits()
    path = [path for path, target in zip(clips.data, clips.target, strict=True) if target == digit][take % 40]
    waveform = torch.from_numpy(load_waveform(path, SAMPLE_RATE, index=0))
    return LogMel().build(SAMPLE_RATE).extract([waveform])[0]


def augmented(name: str, clip: Tensor, partner: Tensor, seed: int) -> Tensor:
    """Return the frames of ``clip`` after an augmentation; those that mix clips mix in ``partner``."""
    augmentation = resolve_component(Augment, name)
    if isinstance(augmentation, Background):
        augmentation.set_params(paths=["hum.wav"])
    always = {"p": 1.0} if "p" in augmentation.get_params() else {}
    transform: Transform = augmentation.set_params(**always).prepare(lambda paths: [hum()])
    inputs, lengths = pad([clip, partner])
    batch = transform(Batch(inputs, lengths, torch.zeros(2), torch.ones(2)), torch.Generator().manual_seed(seed))
    return batch.inputs[0, : int(batch.lengths[0])]


def hum() -> Tensor:
    """Return the frames of two seconds of mains hum, in place of a recording of one's own."""
    time = torch.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    partials = [torch.sin(2 * math.pi * 100 * k * time) / k for k in range(1, 30)]
    return LogMel().build(SAMPLE_RATE).extract([0.1 * torch.stack(partials).sum(dim=0)])[0]


def draw(panels: dict[str, Tensor]) -> plt.Figure:
    """Draw frames by their titles, on one scale of time and of colour."""
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(2.3 * COLUMNS, 2.0 * rows), sharex=True, sharey=True, layout="constrained"
    )
    longest = max(map(len, panels.values()))
    clip = next(iter(panels.values()))
    scale = {"vmin": float(clip.max()) - 2, "vmax": float(clip.max())}  # 80 dB
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, frames) in zip(axes.flat, panels.items(), strict=False):
        image = axis.imshow(frames.T, origin="lower", aspect="auto", cmap="magma", interpolation="nearest", **scale)
        axis.set(title=title, xlim=(-0.5, longest - 0.5), facecolor="0.85")
        axis.label_outer()
    figure.supxlabel("time in frames of 10 ms")
    figure.supylabel("mel band")
    bar = figure.colorbar(image, ax=axes, label="level in dB", aspect=40, pad=0.01)
    bar.set_ticks([scale["vmax"] - step / 2 for step in range(5)], labels=[f"{-20 * step}" for step in range(5)])
    return figure


if __name__ == "__main__":
    main()
