"""Training and testing as a run file says."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from sklearn.base import clone

from skastw._optional import import_optional
from skastw._version import __version__
from skastw.classifier import ASTWClassifier
from skastw.errors import RunError, SkastwError
from skastw.evaluation import Evaluation, evaluate, evaluate_predictions
from skastw.recipes import plain_params, recipe_names, resolve_params
from skastw.runs.file import Run, load_run
from skastw.runs.sources import Clips, load_clips
from skastw.runs.splits import Fold, make_folds

__all__ = ["RunResult", "run"]

#: What lies beside the reports.
MODEL_FOLDER, RUN_FILE = "model", "run.yaml"
#: Parameters that say how much is told while a run goes on; they are not part of it.
_TOLD = ("verbose",)
#: Values of ``data`` that are paths.
_PATHS = ("folder", "table", "data_home")


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run left behind.

    Attributes
    ----------
    folder : str
        Holds the model in ``model/``, the files of :meth:`skastw.evaluation.Evaluation.save`, and ``run.yaml``.
    model : ASTWClassifier
        Fitted; after a cross-validation on all the clips.
    evaluation : Evaluation
        On the clips that were held out; of a cross-validation on all of them, each predicted when it was held out.
    description : AudioDescription
        Of the clips and their split: what :func:`skastw.datasets.describe_audio` found.
    """

    folder: str
    model: ASTWClassifier
    evaluation: Evaluation
    description: Any


def run(spec: Run | str | os.PathLike[str], *, verbose: int = 0) -> RunResult:
    """Train a model, test it on clips that were held out, and save both.

    Parameters
    ----------
    spec : Run or path
        What to do, or the file that says it.
    verbose : int, default=0
        1 shows progress bars.

    Returns
    -------
    RunResult

    Raises
    ------
    RunError
        If the run asks for what there is not.
    SkastwError, ValueError
        As loading, training and saving raise.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.datasets import load_spoken_digits
    >>> from skastw.runs import Run, run
    >>> folder = Path(tempfile.mkdtemp())
    >>> load_spoken_digits(as_frame=True).frame[::10].to_csv(folder / "digits.csv", index=False)
    >>> data = {"table": str(folder / "digits.csv"), "label_column": "target"}
    >>> plan = Run(data, str(folder / "run"), {"test_size": 0.5}, "tiny", {"epochs": 1, "min_steps": 0})
    >>> run(plan).evaluation.n_clips
    20
    """
    plan = spec if isinstance(spec, Run) else load_run(spec)
    import_optional("matplotlib", extra="plot", purpose="A run, for the pictures of its report,")
    estimator = make_estimator(plan).set_params(verbose=verbose)
    clips = load_clips(plan.data)
    folds = make_folds(clips.y, clips.groups, clips.folds, plan.split)
    description = clips.describe(folds, verbose=verbose)
    tested = []
    for fold in folds:
        model = _fitted(estimator, clips.part(fold.train))
        held_out = clips.part(fold.test)
        tested.append(evaluate(model, held_out.X, held_out.y, groups=held_out.groups, n_bootstrap=0))
    if len(folds) > 1:
        model = _fitted(estimator, clips)
    evaluation = _pooled(tested, folds, model)
    folder = _save(plan, model, evaluation, _about(plan, clips, folds, description))
    return RunResult(folder, model, evaluation, description)


def make_estimator(plan: Run) -> ASTWClassifier:
    """Return the classifier that a run trains, with its parameters checked.

    Parameters
    ----------
    plan : Run

    Returns
    -------
    ASTWClassifier
        Not fitted.

    Raises
    ------
    RecipeError, ComponentError, RunError
        Naming what is unknown or out of range.
    """
    estimator = ASTWClassifier.from_recipe(plan.recipe)
    try:
        estimator.set_params(**resolve_params(plan.params, "params"))
        estimator._validate_params()
        estimator._resolve_components()
    except SkastwError:
        raise
    except (TypeError, ValueError) as error:  # scikit-learn's, which names what there is
        raise RunError(f"The params of the run are not valid: {error}") from None
    return estimator


def _fitted(estimator: ASTWClassifier, clips: Clips) -> ASTWClassifier:
    return clone(estimator).fit(clips.X, clips.y, groups=clips.groups)


def _pooled(tested: list[Evaluation], folds: list[Fold], model: ASTWClassifier) -> Evaluation:
    """Return one evaluation of the predictions of all folds, with the training of the model that is kept."""
    names = [fold.name for fold in folds]
    tables = [part.predictions.assign(fold=name) for part, name in zip(tested, names, strict=True)]
    together = pd.concat(tables, ignore_index=True)
    failed = [
        replace(clip, index=int(fold.test[clip.index]))
        for part, fold in zip(tested, folds, strict=True)
        for clip in part.failed
    ]
    pooled = evaluate_predictions(
        together["label"].to_numpy(),
        together["predicted"].to_numpy(),
        groups=together["group"].to_numpy() if "group" in together else None,
        folds=together["fold"].to_numpy() if len(folds) > 1 else None,
        clips=together["clip"].tolist(),
        probabilities=together["probability"].to_numpy(),
    )
    seconds = sum(part.seconds or 0.0 for part in tested)
    return replace(pooled, failed=failed, seconds=seconds, history=model.history_, best_epoch=model.best_epoch_)


def _save(plan: Run, model: ASTWClassifier, evaluation: Evaluation, about: dict[str, Any]) -> str:
    folder = Path(plan.output)
    model.save_pretrained(folder / MODEL_FOLDER)
    evaluation.save(folder, title=plan.description or folder.resolve().name, about=about)
    text = yaml.safe_dump(_resolved(plan, model), sort_keys=False, allow_unicode=True, width=100)
    (folder / RUN_FILE).write_text(f"# Written by skastw {__version__}; skastw train {RUN_FILE} does it again.\n{text}")
    return str(folder)


def _resolved(plan: Run, model: ASTWClassifier) -> dict[str, Any]:
    """Return the run with every parameter written out, as it was, and paths that hold wherever it is read."""
    data = {key: os.path.abspath(value) if key in _PATHS and value else value for key, value in plan.data.items()}
    params = {name: value for name, value in model.get_params(deep=False).items() if name not in _TOLD}
    return {
        "description": plan.description,
        "data": data,
        # a file of the user's may change, and nothing is missing without it
        "recipe": plan.recipe if plan.recipe in recipe_names() else "astw",
        "params": plain_params(params),
        "split": dict(plan.split),
        "output": plan.output,
    }


def _about(plan: Run, clips: Clips, folds: list[Fold], description: Any) -> dict[str, Any]:
    """Return what the report tells of the clips and the model."""
    return {
        "data": dict(plan.data),
        "split": dict(plan.split),
        "clips": len(clips.y) if len(folds) > 1 else f"{len(folds[0].train)} trained, {len(folds[0].test)} held out",
        "recipe": plan.recipe,
        "params": dict(plan.params),
        "warnings": [str(warning) for warning in description.warnings],
        "version": __version__,
    }
