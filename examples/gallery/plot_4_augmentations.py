"""
What each augmentation does to a clip
=====================================

Augmentations change the training clips at random in each epoch; predictions do not apply them. Here each augmentation
is applied once to the same clip, a spoken *seven*. Augmentations that mix clips mix it with a *three*.
"""

# %%
# Augmentations of frames, with parameters whose effect is visible. Each is drawn with ``p=1``, so that it changes
# the clip.

import matplotlib.pyplot as plt
import numpy as np

from skastw import augment as augmentations
from skastw.datasets import load_spoken_digits
from skastw.plots import AugmentationDisplay

clips = load_spoken_digits()
seven = clips.data[list(clips.target).index("seven")]
three = clips.data[list(clips.target).index("three") + 20]

of_frames = [
    augmentations.SpecAugment(time_warp=10),
    augmentations.RandomCrop(min_share=0.5),
    augmentations.ResizedCrop(min_share=0.6),
    augmentations.TimeShift(),
    augmentations.TimeStretch(max_stretch=0.4),
    augmentations.FrequencyWarp(max_warp=0.3),
    augmentations.Gain(max_gain=20.0),
    augmentations.Equalizer(max_gain=20.0),
    augmentations.Noise(min_snr=5.0, max_snr=10.0),
    augmentations.Background(paths=[three], min_snr=0.0, max_snr=5.0),
    augmentations.Mixup(),
    augmentations.CutMix(),
    augmentations.BetweenClass(),
]
frames = AugmentationDisplay.from_clip(seven, of_frames, partner=three, random_state=1)
plt.show()

# %%
# Augmentations of waveforms, after which the front end computes the frames.

of_waveforms = [
    augmentations.WaveformGain(min_gain=-20.0, max_gain=-20.0),
    augmentations.WaveformPolarity(),
    augmentations.WaveformShift(min_shift=0.1),
    augmentations.WaveformSpeed(min_speed=0.7, max_speed=0.7),
    augmentations.WaveformPitch(min_shift=5.0, max_shift=5.0),
    augmentations.WaveformNoise(min_snr=10.0, max_snr=10.0),
    augmentations.WaveformBackground(paths=[three], min_snr=0.0, max_snr=5.0),
    augmentations.WaveformFilter(shape="low_pass", max_frequency=2000.0),
    augmentations.WaveformReverb(min_rt60=0.6, max_drr=0.0),
    augmentations.WaveformClipping(min_overdrive=15.0, max_overdrive=15.0),
    augmentations.WaveformTelephone(),
    augmentations.WaveformCodec(max_cutoff=3000.0),
]
waveforms = AugmentationDisplay.from_clip(seven, of_waveforms, random_state=1)
plt.show()

# %%
# Augmentations that consist of others: ``Sequence`` applies all of them, ``OneOf`` draws one for each clip.
# ``Audiomentations`` takes a transform of this library, or any function of samples.


def halve_resolution(samples, sample_rate):
    """Repeat every second sample."""
    return np.repeat(samples[::2], 2)


room = augmentations.Sequence(augmentations=["waveform_reverb", "waveform_noise"])
combined = [
    room,
    augmentations.OneOf(augmentations=[room, "waveform_telephone"]),
    augmentations.Audiomentations(transform=halve_resolution),
]
others = AugmentationDisplay.from_clip(seven, combined, n_versions=3, random_state=1)
plt.show()
