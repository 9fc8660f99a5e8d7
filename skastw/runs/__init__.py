"""Runs: train and test a model as a YAML file describes, and save the model with a report."""

from skastw.runs.file import Run, check_options, load_run, parse_run, plan_run
from skastw.runs.run import RunResult, make_estimator, run
from skastw.runs.sources import Clips, check_outside, find_clips, load_clips, source_of, table_of, unlabelled_clips
from skastw.runs.splits import Fold, make_folds

__all__ = [
    "Clips",
    "Fold",
    "Run",
    "RunResult",
    "check_options",
    "check_outside",
    "find_clips",
    "load_clips",
    "load_run",
    "make_estimator",
    "make_folds",
    "parse_run",
    "plan_run",
    "run",
    "source_of",
    "table_of",
    "unlabelled_clips",
]
