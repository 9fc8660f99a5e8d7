"""Test the saved model on the fold that it never heard; write numbers, pictures and a page.

python examples/esc50_animals/1_test.py --data-dir path/to/esc50
"""

from __future__ import annotations

import argparse

from skastw import ASTWClassifier
from skastw.evaluation import evaluate
from skastw.runs import load_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder of ESC-50, which is downloaded if missing")
    parser.add_argument("--subset", choices=["animals", "transport", "esc10"], default="animals")
    parser.add_argument("--test-fold", type=int, choices=range(1, 6), default=1, help="the fold of 0_train.py")
    parser.add_argument("--model", default="exports/esc50_animals", help="saved folder, or repository of the Hub")
    parser.add_argument("--output-dir", default="exports/esc50_animals_test")
    args = parser.parse_args()

    clips = load_clips({"set": f"esc50:{args.subset}", "data_home": args.data_dir})
    _, test = clips.split({"test_fold": args.test_fold})
    clf = ASTWClassifier.from_pretrained(args.model)
    result = evaluate(clf, test.X, test.y, groups=test.groups)

    title = f"ESC-50 ({args.subset}), fold {args.test_fold} unheard in training"
    result.save(args.output_dir, title=title, about={"model": args.model, "test fold": args.test_fold})
    print(result.per_class.round(3).to_string())
    print(result)
    print(f"wrote {args.output_dir}/report.html, metrics.json and the pictures")


if __name__ == "__main__":
    main()
