"""Test the saved model on the held-out actors, and write a report with scores and plots beside this script.

python examples/speech_emotion/1_test.py --data-dir path/to/ravdess
"""

from __future__ import annotations

import argparse
from pathlib import Path

from skastw import ASTWClassifier
from skastw.evaluation import evaluate
from skastw.runs import load_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder that contains Actor_01, Actor_02, ...; downloaded if missing")
    parser.add_argument("--model", default="exports/speech_emotion", help="saved folder, or repository of the Hub")
    parser.add_argument("--output-dir", type=Path, default=Path(__file__).parent, help="folder for the report")
    parser.add_argument("--test-actors", type=int, nargs="+", default=[21, 22, 23, 24], help="as in 0_train.py")
    args = parser.parse_args()

    clips = load_clips({"set": "ravdess:neutral,calm,angry,surprised", "data_home": args.data_dir})
    _, test = clips.split({"test_groups": args.test_actors})
    clf = ASTWClassifier.from_pretrained(args.model)
    result = evaluate(clf, test.X, test.y, groups=test.groups)

    title = f"RAVDESS, tested on actors {', '.join(map(str, args.test_actors))}"
    result.save(args.output_dir, title=title, about={"model": args.model, "test actors": args.test_actors})
    print(result.per_class.round(3).to_string())
    print(result)
    print(f"wrote {args.output_dir}/report.html, metrics.json and the plots")


if __name__ == "__main__":
    main()
