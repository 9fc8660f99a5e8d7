"""The models that ``few_clips.py`` and ``robustness.py`` compare, by name, and how both train them and write rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skastw import ASTWAutoClassifier, ASTWClassifier
from skastw.estimators.baselines import baseline_names, make_baseline
from skastw.recipes import recipe_names

__all__ = ["NEED_WEIGHTS", "SAMPLE_RATE", "append_row", "fit", "make_model", "model_names"]

#: Samples per second (Hz) that all these models hear, unless the parameters of a recipe say otherwise.
SAMPLE_RATE = 16000
#: Recipes with a pretrained encoder.
NEED_WEIGHTS = ("frozen", "finetune")


def model_names() -> list[str]:
    """Return the names that :func:`make_model` knows: recipes, classical pipelines, and two estimators."""
    return [*recipe_names(), *baseline_names(), "default", "auto"]


def make_model(
    name: str,
    *,
    seed: int,
    cache_dir: Path | None = None,
    weights: Path | None = None,
    budget: float = 60.0,
    cv: int = 3,
) -> Any:
    """Return a model that is not fitted.

    Parameters
    ----------
    name : str
        A recipe; a classical pipeline; ``"default"`` for ``ASTWClassifier()``; or ``"auto"``.
    seed : int
    cache_dir : Path, optional
        Folder that keeps frames.
    weights : Path, optional
        Folder of a pretrained encoder, for the recipes ``"frozen"`` and ``"finetune"``.
    budget, cv : float and int
        Seconds and inner splits of ``"auto"``.
    """
    common = {"random_state": seed, "cache_dir": cache_dir}
    if name == "auto":
        return ASTWAutoClassifier(budget=budget, cv=cv, **common)
    if name == "default":
        return ASTWClassifier(**common)
    if name in baseline_names():
        return make_baseline(name, sample_rate=SAMPLE_RATE, **common)

    if name in NEED_WEIGHTS and weights is None:
        raise SystemExit(f"The model {name!r} needs the folder of a pretrained encoder: add --weights FOLDER.")
    given = weights if name in NEED_WEIGHTS else None
    return ASTWClassifier.from_recipe(name, weights=given).set_params(**common)


def fit(model: Any, clips: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Any:
    """Return the model, fitted; only the estimators of the library take groups, for their inner splits."""
    if isinstance(model, Pipeline):
        return model.fit(clips.tolist(), labels)
    return model.fit(clips.tolist(), labels, groups=groups)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a line to a file, so that an interrupted run can be resumed, and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)
