"""Train, test and save a model as a run file describes."""

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.base import clone

from skastw.artifact.folder import check_target
from skastw.core.parameters import check_params
from skastw.core.progress import ProgressBar
from skastw.core.version import __version__
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError, OutputError, RunError, SkastwError, TrainingError, plain
from skastw.estimators.auto import ASTWAutoClassifier
from skastw.estimators.classifier import ASTWClassifier
from skastw.evaluation import Evaluation, evaluate, evaluate_predictions
from skastw.evaluation.pages import check_results
from skastw.evaluation.report import FILES
from skastw.network.components import resolve_components
from skastw.recipes import plain_params, recipe_names, resolve_params
from skastw.runs.file import Run, load_run
from skastw.runs.sources import Clips, check_outside, load_clips, table_of
from skastw.runs.splits import Fold, complete_split, make_folds
from skastw.storage.outputs import check_file, check_folder, write_file
from skastw.targets.checks import look_like_values

#: Names in the output folder, next to the reports.
MODEL_FOLDER, RUN_FILE = "model", "run.yaml"
#: Folder for the model of a run whose training or test failed; earlier results are not replaced.
UNFINISHED_FOLDER = "unfinished_model"
#: Parameters that never change a result; the run file that a run writes does not have them.
_NO_RESULT = ("cache_dir", "cache_size", "verbose")
#: First words of a run file that a run wrote.
_HEADER = "# Written by skastw"


@dataclass(frozen=True, eq=False)
class RunResult:
    """The results of a run.

    Attributes
    ----------
    folder : str
        Contains the model in ``model/``, the files of :meth:`skastw.evaluation.Evaluation.save`, and ``run.yaml``.
    model : ASTWClassifier
        The fitted classifier; after a cross-validation, it is trained on all clips.
    evaluation : Evaluation
        Scores on the held-out clips; after a cross-validation, on all clips, each predicted by the model of its fold.
    description : AudioDescription
        The description of the clips and their split by :func:`skastw.datasets.describe_audio`.
    interrupted : bool
        Whether Ctrl-C ended the training. The model then has the best weights until that moment, and only the folds
        that were complete are tested.
    """

    folder: str
    model: ASTWClassifier
    evaluation: Evaluation
    description: Any
    interrupted: bool = False


def run(spec: Run | str | os.PathLike[str], *, verbose: int = 0, overwrite: bool = False) -> RunResult:
    """Train a model, test it on held-out clips, and save the model and the scores.

    Parameters
    ----------
    spec : Run or path
        The run, or the path of a run file.
    verbose : int, default=0
        1 shows progress bars; 2 writes a line for each epoch to standard error, for logs.
    overwrite : bool, default=False
        Replace the results of an earlier run in the output folder. Other files in the folder are not changed.

    Returns
    -------
    RunResult

    Raises
    ------
    RunError
        If the clips cannot be split as the run says, its parameters are not valid, or its labels are values: numbers
        with fractions, or more than 50 different numbers with fewer than 3 clips each on average.
    OutputError
        If the output folder cannot be written, or contains results and ``overwrite`` is False. It is raised before
        the clips are loaded.
    TrainingError
        If training cannot go on. If an epoch was complete, the model with the best weights is saved in the folder
        :data:`UNFINISHED_FOLDER` of the output, without test scores.
    SkastwError, ValueError
        If the clips cannot be loaded, or the model cannot be trained or saved.

    Warns
    -----
    UserWarning
        Before the training, if ``test_size`` leaves a class without training clips or test clips. If Ctrl-C ends the
        training after a complete epoch; the best model until then is tested and saved. Also if
        another exception than a ``TrainingError`` ends the run before the trained model is tested, such as a second
        Ctrl-C or a missing clip; the model is then saved in :data:`UNFINISHED_FOLDER`.

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
    try:
        estimator = make_estimator(plan).set_params(verbose=verbose)
        clips = load_clips(plan.data)
        _check_labels(plan, clips.y)
        folds = make_folds(clips.y, clips.groups, clips.folds, plan.split)
    except SkastwError as error:  # of a value in the run file
        if plan.source:
            error.args = (f"{plan.source}: {error}",)
        raise
    description = clips.describe(folds, verbose=verbose)

    try:
        outcome = _train_and_test(estimator, clips, folds, verbose)
        evaluation = _pooled(outcome, folds)
    except BaseException as error:
        _save_unfinished(plan, estimator, error)
        raise

    folder = _save(plan, outcome, evaluation, clips, folds, description)
    return RunResult(folder, outcome.model, evaluation, description, outcome.interrupted)


def _check_output(plan: Run, *, overwrite: bool) -> None:
    """Raise unless the results of a run can be written to its output folder."""
    check_outside(plan.output, plan.data)
    folder, inputs = Path(plan.output), [*table_of(plan.data), plan.recipe]
    check_results(folder, FILES, overwrite=overwrite, inputs=inputs, others=[MODEL_FOLDER, RUN_FILE])
    check_folder(folder / MODEL_FOLDER)
    check_target(folder / MODEL_FOLDER)

    page = check_file(folder / RUN_FILE, inputs=inputs)
    if page.exists() and not page.read_bytes().startswith(_HEADER.encode()):
        raise OutputError(
            f"Got output {str(folder)!r}, whose {RUN_FILE} was not written by a run and would be replaced; move it, or "
            "choose another folder."
        )


def _check_labels(plan: Run, y: np.ndarray) -> None:
    """Raise if the labels are values, for which a run would train a classifier."""
    fractions = y[y != np.round(y)] if y.dtype.kind == "f" else y[:0]
    if len(fractions):
        problem = f"the value {plain(fractions[0])}"
    elif y.ndim == 1 and look_like_values(y):
        problem = f"{len(np.unique(y))} different numbers for {len(y)} clips"
    else:
        return

    column = f"The column {plan.data.get('label_column') or 'label'!r}" if "table" in plan.data else "The label"
    raise RunError(
        f"{column} has {problem}, expected classes, since a run trains a classifier. For a regression, use "
        "ASTWRegressor in Python. If the numbers are names of classes, write them with a letter, such as 'c17'."
    )


def make_estimator(plan: Run) -> ASTWClassifier | ASTWAutoClassifier:
    """Return the unfitted classifier of a run, with valid parameters.

    Parameters
    ----------
    plan : Run

    Returns
    -------
    ASTWClassifier or ASTWAutoClassifier
        Not fitted. The recipe ``"auto"`` stands for the latter.

    Raises
    ------
    RecipeError, ComponentError, RunError
        If the recipe, a component or a parameter is unknown, or a value is not valid.
    """
    try:
        if plan.recipe == "auto":
            selecting = ASTWAutoClassifier().set_params(**plan.params)
            check_params(selecting, type(selecting).__name__)
            return selecting
        estimator = ASTWClassifier.from_recipe(plan.recipe)
        estimator.set_params(**resolve_params(plan.params, "params"))
        estimator._validate_params()
        resolve_components(estimator)
        plain_params(estimator.get_params(deep=False))  # the saved run file needs plain values
    except SkastwError:
        raise
    except (TypeError, ValueError) as error:  # from scikit-learn; it names the parameter
        raise RunError(f"The params of the run are not valid: {error}") from None
    return estimator


# ------------------------------------------------------------------ training and testing


@dataclass(frozen=True, eq=False)
class _Outcome:
    """The trained model, the evaluation of each tested fold, and whether the model was trained on all clips."""

    model: ASTWClassifier
    tested: list[Evaluation]
    on_all: bool
    interrupted: bool


def _train_and_test(estimator: Any, clips: Clips, folds: list[Fold], verbose: int) -> _Outcome:
    """Train and test on each fold; if there are several, train on all clips at the end. Ctrl-C ends it early."""
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
    except KeyboardInterrupt:  # in the first epoch of a training: the models of earlier folds remain
        if not tested:
            raise
        interrupted = True
    return _Outcome(model, tested, on_all, interrupted or model.interrupted_)


def _fitted(estimator: Any, clips: Clips) -> ASTWClassifier:
    fitted = clone(estimator).fit(clips.X, clips.y, groups=clips.groups)
    return fitted.best_estimator_ if isinstance(fitted, ASTWAutoClassifier) else fitted


def _evaluated(model: ASTWClassifier, held_out: Clips) -> Evaluation:
    """Test a model; an exception gets the model as its attribute ``trained``, as exceptions from ``fit`` do."""
    try:
        return evaluate(model, held_out.X, held_out.y, groups=held_out.groups, n_bootstrap=0)
    except BaseException as error:
        with contextlib.suppress(AttributeError):
            error.trained = model.trained_  # type: ignore[attr-defined]
        raise


def _pooled(outcome: _Outcome, folds: list[Fold]) -> Evaluation:
    """Return one evaluation of the predictions of all tested folds, with the training history of the final model."""
    model, several = outcome.model, len(folds) > 1
    pairs = list(zip(outcome.tested, folds, strict=False))  # an interrupted run tested the first folds only

    # positions in the test clips of a fold become positions in all clips
    failed = [replace(clip, index=int(fold.test[clip.index])) for part, fold in pairs for clip in part.failed]
    table = pd.concat([part.predictions.assign(fold=fold.name) for part, fold in pairs], ignore_index=True)

    pooled = evaluate_predictions(
        table["label"].to_numpy(),
        table["predicted"].to_numpy(),
        groups=table["group"].to_numpy() if "group" in table else None,
        folds=table["fold"].to_numpy() if several else None,
        clips=table["clip"].tolist(),
        probabilities=table["probability"].to_numpy(),
        classes=model.classes_,
    )
    seconds = sum(part.seconds or 0.0 for part in outcome.tested)
    return replace(pooled, failed=failed, seconds=seconds, history=model.history_, best_epoch=model.best_epoch_)


# ------------------------------------------------------------------ saving


def _save_unfinished(plan: Run, estimator: Any, error: BaseException) -> None:
    """Save the model of a failed training or test, and add its path to the error or issue a warning."""
    trained = getattr(error, "trained", None)
    if trained is None:
        return
    model = ASTWClassifier() if isinstance(estimator, ASTWAutoClassifier) else clone(estimator)
    model.trained_ = trained

    folder = Path(plan.output) / UNFINISHED_FOLDER
    try:
        model.save_pretrained(folder, title=plan.description or Path(plan.output).resolve().name)
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
    """Write the model, the reports and the run file, and return the folder."""
    folder = Path(plan.output)
    title = plan.description or folder.resolve().name
    test = {**evaluation.to_dict(), "split": _tested_on(plan.split, outcome, clips, folds)}
    outcome.model.save_pretrained(folder / MODEL_FOLDER, title=title, test=test)
    evaluation.save(folder, title=title, about=_about(plan, outcome, clips, folds, description))

    header = f"{_HEADER} {__version__}; to repeat: skastw train {RUN_FILE} --output FOLDER. Paths start from here.\n"
    values = asdict(_resolved(plan, outcome.model).relative_to(folder))
    page = {key: values[key] for key in ("description", "data", "split", "output", "recipe", "params")}
    write_file(folder / RUN_FILE, header + yaml.safe_dump(page, sort_keys=False, allow_unicode=True, width=100))
    return str(folder)


def _resolved(plan: Run, model: ASTWClassifier) -> Run:
    """Return the run with all parameters of the trained model and the seed of the split."""
    params = {name: value for name, value in model.get_params(deep=False).items() if name not in _NO_RESULT}
    # the params are complete, and a recipe file of the user may change or disappear
    recipe = plan.recipe if plan.recipe in recipe_names() else "astw"
    return replace(plan, recipe=recipe, params=plain_params(params), split=complete_split(plan.split))


def _tested_on(split: Mapping[str, Any], outcome: _Outcome, clips: Clips, folds: list[Fold]) -> str:
    """Return sentences for the model card: how the test clips were chosen, and how far to trust the scores."""
    grouped = clips.groups is not None
    if len(folds) > 1:
        n_tested = f"{len(outcome.tested)} of {len(folds)}" if len(outcome.tested) < len(folds) else str(len(folds))
        trained = "all of them" if outcome.on_all else "one part of them, since training was interrupted"
        return (
            f"They are the clips of {n_tested} folds{' of whole groups' * grouped}, each predicted by a model that was "
            f"trained on the other folds; the model here was trained on {trained}."
        )

    if "test_fold" in split:
        return f"They are the official fold {split['test_fold']} of the data set."
    if "test_groups" in split:
        return f"They are all clips of {folds[0].name}."
    if grouped:
        return "They are whole groups, such as speakers or recordings, drawn at random."
    return (
        "They were drawn at random from the same clips, so they may share speakers, rooms and recordings with the "
        "training clips; expect lower scores on new recordings."
    )


def _about(plan: Run, outcome: _Outcome, clips: Clips, folds: list[Fold], description: Any) -> dict[str, Any]:
    """Return the facts about the clips and the model for the report."""
    model, n_tested = outcome.model, len(outcome.tested)
    sizes = f"trained on {len(folds[0].train)}, tested on {len(folds[0].test)}"
    return {
        "data": dict(plan.data),
        "split": complete_split(plan.split),
        "clips": len(clips.y) if len(folds) > 1 else sizes,
        "recipe": plan.recipe,
        "params": dict(plan.params),
        "epochs": f"{model.n_epochs_} of {model.trained_.record.max_epochs}{', interrupted' * outcome.interrupted}",
        **({"folds": f"{n_tested} of {len(folds)}"} if n_tested < len(folds) else {}),
        "warnings": [str(warning) for warning in description.warnings],
        "version": __version__,
    }
