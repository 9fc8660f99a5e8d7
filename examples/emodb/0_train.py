"""Train on EMO-DB, seven emotions in German speech, with whole speakers held out.

python examples/emodb/0_train.py --data-dir path/to/emodb --test-speakers 03
"""

from __future__ import annotations

import argparse
import time

from skastw import ASTWClassifier
from skastw.recipes import recipe_names
from skastw.runs import load_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder of EMO-DB; downloaded if missing")
    parser.add_argument("--test-speakers", nargs="+", default=["03"], help="speakers of the test clips")
    parser.add_argument("--output-dir", default="exports/emodb")
    parser.add_argument("--recipe", choices=recipe_names(), default="small")
    parser.add_argument("--epochs", type=int, help="by default as in the recipe")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pooling", default="mean", help="mean, max or attentive_stats")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--random-state", type=int, default=42)
    args = parser.parse_args()

    clips = load_clips({"set": "emodb", "data_home": args.data_dir})
    train, _ = clips.split({"test_groups": args.test_speakers})
    print(f"{len(train.y)} training clips of the speakers {', '.join(sorted(set(train.groups)))}")

    clf = ASTWClassifier.from_recipe(args.recipe).set_params(
        batch_size=args.batch_size,
        pooling=args.pooling,
        device=args.device,
        random_state=args.random_state,
        n_jobs=2,
        verbose=1,
    )
    if args.epochs is not None:
        clf.set_params(epochs=args.epochs, min_steps=0)
    began = time.perf_counter()
    clf.fit(train.X, train.y, groups=train.groups)
    print(f"{clf.n_epochs_} epochs in {time.perf_counter() - began:.0f} s")
    print(f"saved {clf.save_pretrained(args.output_dir)}")


if __name__ == "__main__":
    main()
