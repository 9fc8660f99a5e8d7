"""Compute the outputs of a frozen network through the public interface, and by the bare network of transformers.

The network has the size of wav2vec 2.0 base and random weights, which are written to a temporary folder. The clips are
noise, sorted by length. One thread computes. The two sides take turns with a few clips, and their processor times are
added, on which other programs have little effect. The outputs are compared.

    python examples/benchmarks/frozen.py --clips 200
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model, logging

from skastw import ASTWFeaturizer
from skastw.encoders import TransformersEncoder
from skastw.features import Frozen

SAMPLE_RATE = 16000


def main() -> None:
    """Print the times of both sides, and exit with status 1 if the ratio is over the target or the outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, nargs=2, default=[0.3, 1.5], help="shortest and longest clip")
    parser.add_argument("--group", type=int, default=10, help="clips after which the sides change")
    parser.add_argument("--layers", type=int, default=12, help="layers of the network")
    parser.add_argument("--target", type=float, default=1.15, help="largest ratio of the times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()

    rng = np.random.default_rng(0)
    sizes = np.sort(rng.uniform(*options.seconds, size=options.clips) * SAMPLE_RATE).astype(int)
    clips = [(0.1 * rng.standard_normal(size)).astype(np.float32) for size in sizes]
    extractor = Wav2Vec2FeatureExtractor()
    network = Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=options.layers)).eval()

    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        extractor.save_pretrained(folder)
        frozen = Frozen(encoder=TransformersEncoder(weights=folder), chunk_length=30.0)
        featurizer = ASTWFeaturizer(features=frozen, sample_rate=SAMPLE_RATE, n_jobs=1, device="cpu").fit(clips[:1])

    @torch.inference_mode()
    def bare(group: list[np.ndarray]) -> list[np.ndarray]:
        values = [extractor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values for clip in group]
        return [network(value).last_hidden_state[0].numpy() for value in values]

    sides = {"transformers": bare, "skastw": lambda group: list(featurizer.transform(group))}
    for side in sides.values():
        side(clips[-1:])  # the first call prepares kernels
    times, differences = dict.fromkeys(sides, 0.0), []
    for start in range(0, len(clips), options.group):
        outputs = []
        for name, side in sides.items():
            began = time.process_time()
            outputs.append(side(clips[start : start + options.group]))
            times[name] += time.process_time() - began
        differences += [np.abs(first - second).max() for first, second in zip(*outputs, strict=True)]

    ratio = times["skastw"] / times["transformers"]
    for name, seconds in times.items():
        print(f"{name:<14} {seconds:>8.1f} s")
    print(f"{len(clips)} clips of {sum(sizes) / SAMPLE_RATE:.0f} s; ratio {ratio:.3f}, target {options.target:g}")
    print(f"largest difference of the outputs: {max(differences):.1e}")
    sys.exit(0 if ratio <= options.target and max(differences) < 1e-4 else 1)


if __name__ == "__main__":
    main()
