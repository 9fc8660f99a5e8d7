"""Training and testing as a run file says."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from sklearn.base import clone

from skastw.artifact.folder import check_target
from skastw.core.progress import ProgressBar
from skastw.core.version import __version__
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError, OutputError, RunError, SkastwError, TrainingError
from skastw.estimators.classifier import ASTWClassifier
from skastw.evaluation import Evaluation, evaluate, evaluate_predictions
from skastw.evaluation.report import check_report
from skastw.recipes import plain_params, recipe_names, resolve_params
from skastw.runs.file import Run, load_run
from skastw.runs.sources import Clips, check_outside, load_clips, table_of
from skastw.runs.splits import Fold, complete_split, make_folds
from skastw.storage.outputs import check_file, check_folder, write_file

__all__ = ["UNFINISHED_FOLDER", "RunResult", "run"]

#: What lies beside the reports.
MODEL_FOLDER, RUN_FILE = "model", "run.yaml"
#: What a training or a test that failed had reached; earlier results stay as they are.
UNFINISHED_FOLDER = "unfinished_model"
#: How a run file begins that a run has written.
_HEADER = "# Written by skastw"
#: Parameters that say how much is told while a run goes on; they are not part of it.
_TOLD = ("verbose",)


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
    interrupted : bool
        Whether Ctrl-C ended the training: the model is what was learned until then, and of a cross-validation only the
        folds until then are tested.
    """

    folder: str
    model: ASTWClassifier
    evaluation: Evaluation
    description: Any
    interrupted: bool = False


def run(spec: Run | str | os.PathLike[str], *, verbose: int = 0, overwrite: bool = False) -> RunResult:
    """Train a model, test it on clips that were held out, and save both.

    Parameters
    ----------
    spec : Run or path
        What to do, or the file that says it.
    verbose : int, default=0
        1 shows progress bars; 2 writes a line for each epoch to standard error, for logs.
    overwrite : bool, default=False
        Replace the results of an earlier run in the output folder. Other files in it stay as they are.

    Returns
    -------
    RunResult

    Raises
    ------
    RunError
        If the run asks for what there is not.
    OutputError
        If the output folder cannot be written, or holds results and ``overwrite`` is not set; before any work is done.
    TrainingError
        If training cannot go on. If an epoch had ended by then, the model with the best weights so far is saved in the
        folder :data:`UNFINISHED_FOLDER` of the output, without scores of a test.
    SkastwError, ValueError
        As loading, training and saving raise.

    Warns
    -----
    UserWarning
        If the user interrupts the training (Ctrl-C) after an epoch: what was learned until then is tested and saved. If
        anything but a ``TrainingError`` ends the run before a trained model is tested, such as a second Ctrl-C or a
        clip that is gone: the model is saved in :data:`UNFINISHED_FOLDER` then too.

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
    _check_output(plan, overwrite=overwrite)
    estimator = make_estimator(plan).set_params(verbose=verbose)
    clips = load_clips(plan.data)
    folds = make_folds(clips.y, clips.groups, clips.folds, plan.split)
    description = clips.describe(folds, verbose=verbose)
    try:
        outcome = _train_and_test(estimator, clips, folds, verbose)
        evaluation = _pooled(outcome, folds)
    except BaseException as error:
        _save_unfinished(plan, error)
        raise
    folder = _save(plan, outcome, evaluation, clips, folds, description)
    return RunResult(folder, outcome.model, evaluation, description, outcome.interrupted)


def _check_output(plan: Run, *, overwrite: bool) -> None:
    """Raise unless the results of a run can be written where it says."""
    check_outside(plan.output, plan.data)
    folder, inputs = Path(plan.output), [*table_of(plan.data), plan.recipe]
    check_report(folder, overwrite=overwrite, inputs=inputs, others=[MODEL_FOLDER, RUN_FILE])
    check_folder(folder / MODEL_FOLDER)
    check_target(folder / MODEL_FOLDER)
    page = check_file(folder / RUN_FILE, inputs=inputs)
    if page.exists() and not page.read_bytes().startswith(_HEADER.encode()):
        raise OutputError(
            f"Got output {str(folder)!r}, whose {RUN_FILE} was not written by a run and would be replaced; move it, or "
            "give another folder."
        )


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
        plain_params(estimator.get_params(deep=False))  # what the run file says in the end
    except SkastwError:
        raise
    except (TypeError, ValueError) as error:  # scikit-learn's, which names what there is
        raise RunError(f"The params of the run are not valid: {error}") from None
    return estimator


# ------------------------------------------------------------------ training and testing


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What training left: a model, the evaluations of the folds that were tested, and what the model was trained on."""

    model: ASTWClassifier
    tested: list[Evaluation]
    on_all: bool
    interrupted: bool


def _train_and_test(estimator: ASTWClassifier, clips: Clips, folds: list[Fold], verbose: int) -> _Outcome:
    """Train on each fold and test on the rest, and after several folds train on all; Ctrl-C ends with what there is."""
    tested: list[Evaluation] = []
    model, on_all, interrupted = estimator, False, False
    try:
        for number, fold in enumerate(folds, start=1):
            if verbose and len(folds) > 1:
                ProgressBar.write(f"fold {number} of {len(folds)}", file=sys.stderr)
            model = _fitted(estimator, clips.part(fold.train))
            tested.append(_evaluated(model, clips.part(fold.test)))
            if model.interrupted_:
                break
        if len(folds) > 1 and not model.interrupted_:
            if verbose:
                ProgressBar.write("all clips", file=sys.stderr)
            model, on_all = _fitted(estimator, clips), True
    except KeyboardInterrupt:  # before the first epoch of a fold had ended
        if not tested:
            raise
        interrupted = True
    return _Outcome(model, tested, on_all, interrupted or model.interrupted_)


def _fitted(estimator: ASTWClassifier, clips: Clips) -> ASTWClassifier:
    return clone(estimator).fit(clips.X, clips.y, groups=clips.groups)


def _evaluated(model: ASTWClassifier, held_out: Clips) -> Evaluation:
    """Test a model; an exception gets it as the attribute ``trained``, as one that ends ``fit`` does."""
    try:
        return evaluate(model, held_out.X, held_out.y, groups=held_out.groups, n_bootstrap=0)
    except BaseException as error:
        with contextlib.suppress(AttributeError):
            error.trained = model  # type: ignore[attr-defined]
        raise


def _pooled(outcome: _Outcome, folds: list[Fold]) -> Evaluation:
    """Return one evaluation of the predictions of all folds, with the training of the model that is kept."""
    model, tested = outcome.model, outcome.tested
    several, folds = len(folds) > 1, folds[: len(tested)]
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
        folds=together["fold"].to_numpy() if several else None,
        clips=together["clip"].tolist(),
        probabilities=together["probability"].to_numpy(),
        classes=model.classes_,
    )
    seconds = sum(part.seconds or 0.0 for part in tested)
    return replace(pooled, failed=failed, seconds=seconds, history=model.history_, best_epoch=model.best_epoch_)


# ------------------------------------------------------------------ what is left behind


def _save_unfinished(plan: Run, error: BaseException) -> None:
    """Save the model that a failed training or test had reached, beside earlier results, and say so."""
    trained = getattr(error, "trained", None)
    if not isinstance(trained, ASTWClassifier):
        return
    folder = Path(plan.output) / UNFINISHED_FOLDER
    try:
        trained.save_pretrained(folder, title=plan.description or Path(plan.output).resolve().name)
        outcome = f"The model with the best weights until then is saved in {str(folder)!r}."
    except ArtifactError as failure:
        outcome = str(failure)
    if isinstance(error, TrainingError):
        error.args = (f"{error} {outcome}",)
    else:
        warn_user(f"The run ends before its model is tested. {outcome}")


def _save(
    plan: Run, outcome: _Outcome, evaluation: Evaluation, clips: Clips, folds: list[Fold], description: Any
) -> str:
    folder = Path(plan.output)
    title = plan.description or folder.resolve().name
    test = {**evaluation.to_dict(), "split": _tested_on(plan.split, outcome, clips, folds)}
    outcome.model.save_pretrained(folder / MODEL_FOLDER, title=title, test=test)
    evaluation.save(folder, title=title, about=_about(plan, outcome, clips, folds, description))
    header = f"{_HEADER} {__version__}; skastw train {RUN_FILE} --output FOLDER does it again. Paths start from here.\n"
    values = asdict(_resolved(plan, outcome.model).relative_to(folder))
    page = {key: values[key] for key in ("description", "data", "split", "output", "recipe", "params")}
    text = yaml.safe_dump(page, sort_keys=False, allow_unicode=True, width=100)
    write_file(folder / RUN_FILE, header + text)
    return str(folder)


def _resolved(plan: Run, model: ASTWClassifier) -> Run:
    """Return the run with every parameter and seed written out, as it was."""
    params = {name: value for name, value in model.get_params(deep=False).items() if name not in _TOLD}
    # a file of the user's may change, and nothing is missing without it
    recipe = plan.recipe if plan.recipe in recipe_names() else "astw"
    return replace(plan, recipe=recipe, params=plain_params(params), split=complete_split(plan.split))


def _tested_on(split: Mapping[str, Any], outcome: _Outcome, clips: Clips, folds: list[Fold]) -> str:
    """Return which clips the scores are of, and what that is worth."""
    grouped = clips.groups is not None
    if len(folds) > 1:
        n_tested = f"{len(outcome.tested)} of {len(folds)}" if len(outcome.tested) < len(folds) else str(len(folds))
        trained = "all of them" if outcome.on_all else "one part of them, since training was interrupted"
        return (
            f"They are those of {n_tested} folds{' of whole groups' * grouped}, each predicted by a model that was "
            f"trained on the other folds; the model here was trained on {trained}."
        )
    if "test_fold" in split:
        return f"They are fold {split['test_fold']} of the data set's own."
    if "test_groups" in split:
        return f"They are all clips of {folds[0].name}."
    if grouped:
        return "They are whole groups, such as speakers or recordings, drawn at random."
    return (
        "They were drawn at random from the same clips, so they may share speakers, rooms and recordings with the "
        "training clips; on new ones expect less."
    )


def _about(plan: Run, outcome: _Outcome, clips: Clips, folds: list[Fold], description: Any) -> dict[str, Any]:
    """Return what the report tells of the clips and the model."""
    model, n_tested = outcome.model, len(outcome.tested)
    return {
        "data": dict(plan.data),
        "split": complete_split(plan.split),
        "clips": len(clips.y) if len(folds) > 1 else f"{len(folds[0].train)} trained, {len(folds[0].test)} held out",
        "recipe": plan.recipe,
        "params": dict(plan.params),
        "epochs": f"{model.n_epochs_} of {model._max_epochs}{', interrupted' * outcome.interrupted}",
        **({"folds": f"{n_tested} of {len(folds)}"} if n_tested < len(folds) else {}),
        "warnings": [str(warning) for warning in description.warnings],
        "version": __version__,
    }
