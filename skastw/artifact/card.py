"""The model card: the README.md of an artifact, with the Hub's metadata."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["model_card"]

_TEXT = """\
# {title}

A compact audio model trained from scratch with [skastw](https://pypi.org/project/skastw/) {version}: no pretrained
weights, {n_parameters:,} parameters, {n_labels} {labels_noun}.

## Use

```python
from {module} import {estimator}

model = {estimator}.from_pretrained("path-or-user/name")
model.predict(["clip.wav"])
```
{more_use}
Clips may be of any length, rate and number of channels: they are averaged to mono and resampled to {sample_rate} Hz.

## Intended use

{intended_use}

## {labels_title}

{labels}

## Training

{training}

| component | settings |
| --- | --- |
{components}

## Evaluation

{evaluation}

## Limits

{limits} It hears what its training clips held, so check it on speakers, rooms and microphones of your own before
relying on it. It is not made to decide about people by itself.
"""

_WORDS: dict[str, dict[str, str]] = {
    "classification": {
        "labels_noun": "classes",
        "labels_title": "Labels",
        "more_use": "\nor, in a shell, `skastw predict clip.wav --model path-or-user/name`.\n",
        "intended_use": (
            "Telling apart the classes below in recordings like those that the model was trained on: sorting, "
            "searching and pre-labelling, with somebody who listens to what matters."
        ),
        "limits": (
            "The model knows the classes above and nothing else: it gives every sound one of these labels. Its "
            "probabilities rank clips; they are not calibrated."
        ),
    },
    "multilabel": {
        "labels_noun": "labels, any number of which may apply",
        "labels_title": "Labels",
        "more_use": "\nor, in a shell, `skastw predict clip.wav --model path-or-user/name`.\n",
        "intended_use": (
            "Finding the labels below in recordings like those that the model was trained on: sorting, searching and "
            "pre-labelling, with somebody who listens to what matters."
        ),
        "limits": (
            "The model knows the labels above and nothing else. Its probabilities rank clips; they are not calibrated."
        ),
    },
    "regression": {
        "labels_noun": "values",
        "labels_title": "Values",
        "more_use": "",
        "intended_use": "Estimating the values below for recordings like those that the model was trained on.",
        "limits": "The model gives every sound these values, whether or not they mean anything for it.",
    },
}

#: Scores of ``metrics.json`` that the Hub's metadata have a word for: that word, and what to show.
_HUB_METRICS: dict[str, dict[str, Any]] = {
    "accuracy": {"type": "accuracy", "name": "Accuracy"},
    "macro_f1": {"type": "f1", "name": "Macro-F1", "args": {"average": "macro"}},
    "uar": {"type": "recall", "name": "Unweighted average recall", "args": {"average": "macro"}},
    "r2": {"type": "r_squared", "name": "R2"},
}

#: What a way to choose the validation clips means for their scores.
_SPLITS = {
    "random split, stratified where possible": (
        "They were drawn at random from the same clips, so they may share speakers, rooms and recordings with the "
        "training clips; on new ones expect less."
    ),
    "whole groups held out": (
        "They are whole groups, such as speakers or recordings, and the model was trained on no clip of theirs."
    ),
    "validation clips given by the caller": "They were chosen by whoever trained the model.",
}


def model_card(
    *,
    title: str,
    module: str,
    estimator: str,
    version: str,
    task: str,
    labels: Sequence[Any],
    sample_rate: int,
    n_parameters: int,
    components: Mapping[str, str],
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> str:
    """Write the model card.

    Parameters
    ----------
    title : str
    module, estimator : str
        Where the loading class is imported from, and its name.
    version : str
        Release of skastw.
    task : {"classification", "multilabel", "regression"}
    labels : sequence
        The classes, or the names of the values.
    sample_rate : int
        Hz.
    n_parameters : int
    components : mapping of kind to settings
    params : mapping
        The estimator's parameters.
    metrics : mapping
        Content of ``metrics.json``.

    Returns
    -------
    str
        Markdown with a YAML header.
    """
    text = _TEXT.format(
        title=title,
        module=module,
        estimator=estimator,
        version=version,
        n_parameters=n_parameters,
        n_labels=len(labels),
        **_WORDS[task],
        sample_rate=sample_rate,
        labels=", ".join(map(_cell, labels)),
        training=_training(params, metrics),
        components="\n".join(f"| {kind} | `{settings}` |" for kind, settings in components.items()),
        evaluation=_evaluation(params, metrics),
    )
    import yaml

    header = yaml.safe_dump(_metadata(title, metrics), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{text}"


def _metadata(title: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "skastw",
        "pipeline_tag": "audio-classification",
        "tags": ["audio-classification", "skastw", "scikit-learn", "trained-from-scratch"],
    }
    scores, dataset = metrics["validation"], {"name": "validation split of the training data", "split": "validation"}
    if metrics.get("test"):
        scores, dataset = metrics["test"], {"name": "clips held out for testing", "split": "test"}
    found = [name for name in _HUB_METRICS if scores and name in scores]
    if found:
        results = {
            "task": {"type": "audio-classification", "name": "Audio classification"},
            "dataset": {"type": "private", **dataset},
            "metrics": [{**_HUB_METRICS[name], "value": round(scores[name], 4)} for name in found],
        }
        metadata["metrics"] = [_HUB_METRICS[name]["type"] for name in found]
        metadata["model-index"] = [{"name": title, "results": [results]}]
    return metadata


def _training(params: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    most, rate, seed = metrics.get("max_epochs", params["epochs"]), params["muon_lr"], metrics.get("seed")
    muon = "" if rate is None else f"Muon (learning rate {rate}) updates matrix-shaped weights, "
    return (
        f"{metrics['n_train']} clips trained and {metrics['n_validation']} validated ({metrics['split']}). "
        f"{metrics['n_epochs']}{f' of {most}' if most else ''} epochs in batches of "
        f"{metrics.get('batch_size', params['batch_size'])}"
        f"{', when it was interrupted' if metrics.get('interrupted') else ''}; the weights are those of epoch "
        f"{metrics['best_epoch']}. {muon}AdamW (learning rate {params['adam_lr']}) "
        f"{'the rest' if muon else 'updates all'}, weight decay {params['weight_decay']}, "
        f"label smoothing {params.get('label_smoothing', 0.0)}, warm-up over {params['warmup_ratio']:.0%} of the "
        f"steps, then cosine.{'' if seed is None else f' The seed is {seed}.'}"
        f"{_trained_with(metrics.get('versions', {}))}"
    )


def _trained_with(versions: Mapping[str, str]) -> str:
    return f" Trained with {', '.join(f'{_cell(k)} {_cell(v)}' for k, v in versions.items())}." if versions else ""


def _evaluation(params: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    validation, test, parts = metrics["validation"], metrics.get("test"), []
    if test:
        parts.append(f"On {test['n_clips']} clips that were held out for testing. {_prose(test['split'])}".rstrip())
        names = ("accuracy", "macro_f1", "uar")
        values = [(name, f"{test[name]:.4f}{_range(test['intervals'].get(name))}") for name in names]
        parts += [_table(("score", "value (95 % interval)"), values), *_classes(test["per_class"])]
    if validation:
        chosen = ", which also chose the epoch, so a little optimistic" if params.get("keep", "best") == "best" else ""
        words = f"On the {metrics['n_validation']} validation clips{chosen}. {_SPLITS.get(metrics['split'], '')}"
        rows = [(name, f"{value:.4f}") for name, value in validation.items()]
        parts += [words.rstrip(), _table(("score", "value"), rows), *_classes(metrics.get("per_class"))]
    return "\n\n".join(parts) or "No clips were held out in training; evaluate on clips of your own."


def _prose(text: str) -> str:
    """Return somebody's sentence on one line, without HTML."""
    return html.escape(" ".join(text.split()), quote=False)


def _range(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"


def _classes(per_class: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Return the table of the scores of each class, if there are any."""
    names = ("precision", "recall", "f1")
    rows = [(_cell(row["label"]), *(f"{row[n]:.3f}" for n in names), str(row["support"])) for row in per_class or []]
    return [_table(("label", *names, "clips"), rows)] if rows else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _cell(label: Any) -> str:
    """Return a label as code that stays in its cell, whatever it holds."""
    text = " ".join(str(label).split()).replace("|", "\\|").replace("`", "'")
    return f"`{text}`"
