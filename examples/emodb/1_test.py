"""Test the saved model on the held-out speakers, and write a report with scores and plots beside this script.

python examples/emodb/1_test.py --data-dir path/to/emodb --test-speakers 03
"""

from __future__ import annotations

import argparse
from pathlib import Path

from skastw import ASTWClassifier
from skastw.evaluation import evaluate
from skastw.runs import load_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder of EMO-DB; downloaded if missing")
    parser.add_argument("--test-speakers", nargs="+", default=["03"], help="as in 0_train.py")
    parser.add_argument("--model", default="exports/emodb", help="saved folder, or repository of the Hub")
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).parent, help="folder for the report")
    args = parser.parse_args()

    clips = load_clips({"set": "emodb", "data_home": args.data_dir})
    _, test = clips.split({"test_groups": args.test_speakers})
    clf = ASTWClassifier.from_pretrained(args.model)
    result = evaluate(clf, test.X, test.y, groups=test.groups)

    title = f"EMO-DB, tested on speakers {', '.join(args.test_speakers)}"
    result.save(args.output_dir, title=title, about={"model": args.model, "test speakers": args.test_speakers})
    print(result.per_class.round(3).to_string())
    print(result)
    print(f"wrote {args.output_dir}/report.html, metrics.json and the plots")


if __name__ == "__main__":
    main()
