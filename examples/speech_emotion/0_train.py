"""Train on RAVDESS speech (neutral, calm, angry, surprised), with whole actors held out.

python examples/speech_emotion/0_train.py --data-dir path/to/ravdess
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ravdess import find_clips

from skastw import ASTWClassifier
from skastw._component import component_names
from skastw.encoders import ASTWEncoder


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds Actor_01, Actor_02, ...")
    parser.add_argument("--output-dir", type=Path, default=Path("exports/speech_emotion"))
    parser.add_argument(
        "--test-actors", type=int, nargs="+", default=[21, 22, 23, 24], help="actors never heard in training"
    )
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pooling", choices=component_names("pooling"), default="mean")
    parser.add_argument("--d-model", type=int, default=384, help="width of the encoder")
    parser.add_argument("--num-heads", type=int, default=6)
    parser.add_argument("--num-layers", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--random-state", type=int, default=42)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    clips = find_clips(args.data_dir)
    train = clips[~clips.actor.isin(args.test_actors)]
    print(f"{len(train)} training clips of actors {sorted(train.actor.unique().tolist())}")

    clf = ASTWClassifier(
        encoder=ASTWEncoder(d_model=args.d_model, num_heads=args.num_heads, num_layers=args.num_layers),
        pooling=args.pooling,
        epochs=args.epochs,
        batch_size=args.batch_size,
        device=args.device,
        random_state=args.random_state,
        n_jobs=2,
        verbose=1,
    )
    began = time.perf_counter()
    clf.fit(train.audio, train.emotion, groups=train.actor)
    seconds = time.perf_counter() - began

    folder = clf.save_pretrained(args.output_dir)
    best = clf.history_[clf.best_epoch_ - 1]
    print(f"{clf.n_epochs_} epochs in {seconds:.0f} s ({seconds / clf.n_epochs_:.1f} s an epoch)")
    print(
        f"best epoch {clf.best_epoch_}: validation macro-F1 {best['val_macro_f1']:.3f} on actors held out of training"
    )
    print(f"saved {folder}")


if __name__ == "__main__":
    main()
