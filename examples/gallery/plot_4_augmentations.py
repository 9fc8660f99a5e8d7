"""
What each augmentation does to a clip
=====================================

Augmentations change the training clips at random in each epoch; predictions do not apply them. Here each augmentation
is applied once to the same clip, a spoken *seven*. Augmentations that mix clips mix it with a *three*.
"""

# %%
# Compute the frames of both clips as a batch. A ``Batch`` contains frames, lengths, targets and weights.

import matplotlib.pyplot as plt
import torch

from skastw import ASTWFeaturizer
from skastw import augment as augmentations
from skastw.core.batching import Batch, pad
from skastw.datasets import load_spoken_digits

clips = load_spoken_digits()
seven = clips.data[list(clips.target).index("seven")]
three = clips.data[list(clips.target).index("three") + 20]


def frames_of(paths):
    """Return the log-mel frames of files, as training computes them."""
    return [torch.from_numpy(frames) for frames in ASTWFeaturizer().fit_transform(paths)]


inputs, lengths = pad(frames_of([seven, three]))
batch = Batch(inputs, lengths, targets=torch.tensor([0, 1]), weights=torch.ones(2))

# %%
# All augmentations of the library, with parameters whose effect is visible. With ``p=1``, every clip is changed.

chosen = [
    augmentations.SpecAugment(),
    augmentations.RandomCrop(min_share=0.5),
    augmentations.ResizedCrop(min_share=0.6),
    augmentations.TimeShift(p=1.0),
    augmentations.TimeStretch(max_stretch=0.4),
    augmentations.FrequencyWarp(max_warp=0.3),
    augmentations.Gain(max_gain=20.0),
    augmentations.Equalizer(max_gain=20.0),
    augmentations.Noise(min_snr=5.0, max_snr=10.0, p=1.0),
    augmentations.Background(paths=[three], min_snr=0.0, max_snr=5.0, p=1.0),
    augmentations.Mixup(p=1.0),
    augmentations.CutMix(p=1.0),
    augmentations.BetweenClass(p=1.0),
]
panels = {"the clip": inputs[0, : lengths[0]]}
for augmentation in chosen:
    transform = augmentation.prepare(frames_of, 16000)  # reads the background recordings, if any
    changed = transform(batch, torch.Generator().manual_seed(1))
    panels[type(augmentation).__name__] = changed.inputs[0, : changed.lengths[0]]

# %%
# All panels have the same scale: a range of 80 decibels, and time in frames of 10 ms.

top = float(panels["the clip"].max())
figure, axes = plt.subplots(5, 3, figsize=(8, 9), sharex=True, sharey=True, layout="constrained")
for axis in axes.flat[len(panels) :]:
    axis.set_axis_off()
for axis, (title, frames) in zip(axes.flat, panels.items(), strict=False):
    axis.imshow(frames.T.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=top - 2, vmax=top)
    axis.set(title=title, xlim=(-0.5, max(map(len, panels.values())) - 0.5), facecolor="0.85")
figure.supxlabel("frame")
figure.supylabel("mel band")
plt.show()
