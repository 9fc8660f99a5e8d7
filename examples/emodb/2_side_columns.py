"""Measure whether an SVM on statistics of the clips improves with the gender and age of the speaker.

    python examples/emodb/2_side_columns.py --data-dir path/to/emodb

Each speaker is left out in turn. ``ColumnTransformer`` transforms the clips and the ordinary columns separately.
"""

from __future__ import annotations

import argparse
import tempfile

from sklearn.compose import make_column_transformer
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from skastw import ASTWFeaturizer
from skastw.datasets import fetch_dataset
from skastw.evaluation import evaluate_predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder of EMO-DB; downloaded if missing")
    parser.add_argument("--output-dir", default="exports/emodb_side_columns")
    parser.add_argument("--n-jobs", type=int, default=2, help="threads that decode")
    args = parser.parse_args()

    clips = fetch_dataset("emodb", data_home=args.data_dir, as_frame=True)
    table, speakers = clips.frame[["audio", "gender", "age"]], clips.groups
    with tempfile.TemporaryDirectory() as cache:  # for the statistics, which both models use
        statistics = make_pipeline(
            ASTWFeaturizer(output="statistics", n_jobs=args.n_jobs), StandardScaler(), memory=cache
        )
        columns = {
            "statistics": make_column_transformer((statistics, "audio")),
            "statistics, gender and age": make_column_transformer(
                (statistics, "audio"), (OneHotEncoder(drop="if_binary"), ["gender"]), (StandardScaler(), ["age"])
            ),
        }
        for name, transformer in columns.items():
            model = make_pipeline(transformer, SVC())
            predicted = cross_val_predict(model, table, clips.target, groups=speakers, cv=LeaveOneGroupOut())
            result = evaluate_predictions(clips.target, predicted, groups=speakers, clips=table["audio"])
            folder = f"{args.output_dir}/{name.replace(', ', '_').replace(' ', '_')}"
            result.save(folder, title=f"EMO-DB, one speaker left out at a time: SVM on {name}")
            print(f"{name}: {result}; wrote {folder}")


if __name__ == "__main__":
    main()
