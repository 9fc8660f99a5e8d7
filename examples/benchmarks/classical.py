"""Train the named classical pipelines on each fold of protocols, and report scores on the test clips.

    python examples/benchmarks/classical.py run --protocol choice nemo-choice --data-dir path/to/data --cache-dir frames
    python examples/benchmarks/classical.py report

A run appends a JSON line for each fold to ``--output``; folds that the file contains already are skipped. ``--set``
changes parameters of a pipeline, such as ``classifier__C=0.01``. ``time`` prints the milliseconds of processor time
that a clip takes, on one core. Protocols are described in ``accuracy.py``; the test clips choose nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from skastw.audio import load_waveform
from skastw.estimators.baselines import baseline_names, make_baseline

sys.path.insert(0, str(Path(__file__).parent))
from accuracy import read_rows, scores
from protocols import PROTOCOLS, Protocol, load_protocol

#: Sampling rates (Hz); 16 kHz for the other protocols.
RATES = {"esc10": 44100}


def main() -> None:
    """Run folds, report their results, or measure time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, command in (("run", run), ("report", report), ("time", measure)):
        subparser = commands.add_parser(name)
        subparser.set_defaults(command=command)
        subparser.add_argument("--protocol", nargs="*", choices=sorted(PROTOCOLS), default=[])
        subparser.add_argument("--baseline", nargs="*", choices=baseline_names(), default=baseline_names())
        subparser.add_argument("--set", nargs="*", default=[], metavar="PARAM=VALUE", help="changes, values as in YAML")
        subparser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder that contains the sets")
        subparser.add_argument("--cache-dir", type=Path, help="folder that keeps the rows of clips")
        subparser.add_argument("--output", type=Path, default=Path("exports/classical.jsonl"))
    options = parser.parse_args()
    options.command(options)


def run(options: argparse.Namespace) -> None:
    """Train and test the folds that the output does not contain yet."""
    changes = {name: yaml.safe_load(value) for name, value in (item.split("=", 1) for item in options.set)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    done = [[row[key] for key in ("protocol", "baseline", "changes", "fold")] for row in read_rows(options.output)]
    for protocol in (load_protocol(name, options.data_dir) for name in options.protocol):
        for baseline in options.baseline:
            todo = [fold for fold in protocol.folds if [protocol.name, baseline, changes, fold] not in done]
            for fold in todo:
                row = {"protocol": protocol.name, "baseline": baseline, "changes": changes, "fold": fold}
                row |= run_fold(options, protocol, baseline, changes, fold)
                with open(options.output, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print({key: value for key, value in row.items() if not isinstance(value, list)}, flush=True)


def run_fold(
    options: argparse.Namespace, protocol: Protocol, baseline: str, changes: dict[str, Any], fold: str
) -> dict[str, Any]:
    """Return the scores and the predictions of a fold."""
    train, test = protocol.folds[fold]
    rate = RATES.get(protocol.name, 16000)
    pipeline = make_baseline(baseline, sample_rate=rate, cache_dir=options.cache_dir, random_state=0)
    pipeline.set_params(**changes).fit(protocol.audio[train].tolist(), protocol.labels[train])
    predictions = pipeline.predict(protocol.audio[test].tolist()).tolist()
    return {
        **scores(protocol.labels[test], predictions),
        "labels": protocol.labels[test].tolist(),
        "predictions": predictions,
    }


def report(options: argparse.Namespace) -> None:
    """Print the scores of the pooled predictions of each protocol and pipeline."""
    rows = pd.DataFrame(read_rows(options.output))
    if rows.empty:
        raise SystemExit(f"{str(options.output)!r} contains no rows: `run` writes them.")
    rows["changes"] = rows["changes"].map(json.dumps)
    lines = []
    for (protocol, baseline, changes), group in rows.groupby(["protocol", "baseline", "changes"], sort=False):
        together = scores(np.concatenate([*group["labels"]]), np.concatenate([*group["predictions"]]))
        line = {"protocol": protocol, "baseline": baseline, "changes": changes, "folds": len(group)}
        lines.append(line | {name: f"{value:.3f}" for name, value in together.items()})
    print(pd.DataFrame(lines).to_string(index=False))


def measure(options: argparse.Namespace) -> None:
    """Print the milliseconds of processor time that reading and describing a clip takes."""
    torch.set_num_threads(1)
    for protocol in (load_protocol(name, options.data_dir) for name in options.protocol):
        rate = RATES.get(protocol.name, 16000)
        clips = [(load_waveform(path, rate), rate) for path in protocol.audio[:40]]
        for baseline in options.baseline:
            featurizer = make_baseline(baseline, sample_rate=rate)[0].fit(clips)
            featurizer.transform(clips[:4])
            began = time.process_time()
            featurizer.transform(clips)
            milliseconds = (time.process_time() - began) / len(clips) * 1000
            print(f"{protocol.name}  {featurizer.output}  {rate} Hz  {milliseconds:.1f} ms a clip")


if __name__ == "__main__":
    main()
