"""Train on RAVDESS speech (neutral, calm, angry, surprised), with whole actors held out.

python examples/speech_emotion/0_train.py --data-dir path/to/ravdess
"""

from __future__ import annotations

import argparse
import time

from skastw import ASTWClassifier
from skastw.encoders import ASTWEncoder
from skastw.runs import load_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder that contains Actor_01, Actor_02, ...; downloaded if missing")
    parser.add_argument("--output-dir", default="exports/speech_emotion")
    parser.add_argument("--test-actors", type=int, nargs="+", default=[21, 22, 23, 24], help="actors of the test clips")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pooling", default="mean", help="mean, max or attentive_stats")
    parser.add_argument("--d-model", type=int, default=384, help="width of the encoder")
    parser.add_argument("--num-heads", type=int, default=6)
    parser.add_argument("--num-layers", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--random-state", type=int, default=42)
    args = parser.parse_args()

    clips = load_clips({"set": "ravdess:neutral,calm,angry,surprised", "data_home": args.data_dir})
    train, _ = clips.split({"test_groups": args.test_actors})
    print(f"{len(train.y)} training clips of actors {sorted(set(train.groups.tolist()))}")

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
    clf.fit(train.X, train.y, groups=train.groups)
    seconds = time.perf_counter() - began
    print(f"{clf.n_epochs_} epochs in {seconds:.0f} s ({seconds / clf.n_epochs_:.1f} s per epoch)")
    best = clf.history_[clf.best_epoch_ - 1]
    print(f"best epoch {clf.best_epoch_}: macro-F1 {best['val_macro_f1']:.3f} on the validation actors")
    print(f"saved {clf.save_pretrained(args.output_dir)}")


if __name__ == "__main__":
    main()
