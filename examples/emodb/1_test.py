"""Test the saved model on the speakers that it never heard; write numbers, pictures and a page.

python examples/emodb/1_test.py --data-dir path/to/emodb --test-speakers 03
"""

from __future__ import annotations

import argparse

from skastw import ASTWClassifier
from skastw.evaluation import evaluate
from skastw.runs import load_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder of EMO-DB, which is downloaded if missing")
    parser.add_argument("--test-speakers", nargs="+", default=["03"], help="those of 0_train.py")
    parser.add_argument("--model", default="exports/emodb", help="saved folder, or repository of the Hub")
    parser.add_argument("--output-dir", default="exports/emodb_test")
    args = parser.parse_args()

    clips = load_clips({"set": "emodb", "data_home": args.data_dir})
    _, test = clips.split({"test_groups": args.test_speakers})
    clf = ASTWClassifier.from_pretrained(args.model)
    result = evaluate(clf, test.X, test.y, groups=test.groups)

    title = f"EMO-DB, speakers {', '.join(args.test_speakers)} unheard in training"
    result.save(args.output_dir, title=title, about={"model": args.model, "test speakers": args.test_speakers})
    print(result.per_class.round(3).to_string())
    print(result)
    print(f"wrote {args.output_dir}/report.html, metrics.json and the pictures")


if __name__ == "__main__":
    main()
