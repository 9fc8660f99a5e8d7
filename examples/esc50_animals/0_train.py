"""Train on the animals of ESC-50, with one of the five official folds held out.

python examples/esc50_animals/0_train.py --data-dir path/to/esc50
"""

from __future__ import annotations

import argparse
import time

from skastw import ASTWClassifier
from skastw._component import component_names
from skastw.recipes import recipe_names
from skastw.runs import load_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder of ESC-50, which is downloaded if missing")
    parser.add_argument("--subset", choices=["animals", "transport", "esc10"], default="animals")
    parser.add_argument("--test-fold", type=int, choices=range(1, 6), default=1, help="fold never heard in training")
    parser.add_argument("--output-dir", default="exports/esc50_animals")
    parser.add_argument("--recipe", choices=recipe_names(), default="astw")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pooling", choices=component_names("pooling"), default="mean")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--random-state", type=int, default=42)
    args = parser.parse_args()

    clips = load_clips({"set": f"esc50:{args.subset}", "data_home": args.data_dir})
    train, _ = clips.split({"test_fold": args.test_fold})
    print(f"{len(train.y)} training clips of {len(set(train.groups))} recordings")

    clf = ASTWClassifier.from_recipe(args.recipe).set_params(
        epochs=args.epochs,
        min_steps=0,
        batch_size=args.batch_size,
        pooling=args.pooling,
        device=args.device,
        random_state=args.random_state,
        n_jobs=2,
        verbose=1,
    )
    began = time.perf_counter()
    clf.fit(train.X, train.y, groups=train.groups)
    seconds = time.perf_counter() - began
    print(f"{clf.n_epochs_} epochs in {seconds:.0f} s, the weights are those of epoch {clf.best_epoch_}")
    print(f"saved {clf.save_pretrained(args.output_dir)}")


if __name__ == "__main__":
    main()
