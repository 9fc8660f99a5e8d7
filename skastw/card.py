"""The model card: the README.md of an artifact, with the Hub's metadata."""

from __future__ import annotations

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
relying on it.
"""

_WORDS: dict[str, dict[str, str]] = {
    "classification": {
        "labels_noun": "classes",
        "labels_title": "Labels",
        "more_use": "\nor, in a shell, `skastw predict clip.wav --model path-or-user/name`.\n",
        "limits": "The model knows the classes above and nothing else: it gives every sound one of these labels.",
    },
    "multilabel": {
        "labels_noun": "labels, any number of which may apply",
        "labels_title": "Labels",
        "more_use": "\nor, in a shell, `skastw predict clip.wav --model path-or-user/name`.\n",
        "limits": "The model knows the labels above and nothing else.",
    },
    "regression": {
        "labels_noun": "values",
        "labels_title": "Values",
        "more_use": "",
        "limits": "The model gives every sound these values, whether or not they mean anything for it.",
    },
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
    validation = metrics["validation"]
    text = _TEXT.format(
        title=title,
        module=module,
        estimator=estimator,
        version=version,
        n_parameters=n_parameters,
        n_labels=len(labels),
        **_WORDS[task],
        sample_rate=sample_rate,
        labels=", ".join(f"`{label}`" for label in labels),
        training=_training(params, metrics),
        components="\n".join(f"| {kind} | `{settings}` |" for kind, settings in components.items()),
        evaluation=_evaluation(validation),
    )
    import yaml

    header = yaml.safe_dump(_metadata(title, validation), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{text}"


def _metadata(title: str, validation: Mapping[str, float] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "skastw",
        "pipeline_tag": "audio-classification",
        "tags": ["audio-classification", "skastw", "scikit-learn", "trained-from-scratch"],
    }
    if validation:
        results = [
            {"type": kind, "name": name, "value": round(validation[key], 4)}
            for kind, name, key in (
                ("accuracy", "Accuracy", "accuracy"),
                ("f1", "Macro-F1", "macro_f1"),
                ("r_squared", "R2", "r2"),
            )
            if key in validation
        ]
        task = {"type": "audio-classification", "name": "Audio classification"}
        dataset = {"type": "private", "name": "validation split of the training data"}
        metadata["model-index"] = [{"name": title, "results": [{"task": task, "dataset": dataset, "metrics": results}]}]
    return metadata


def _training(params: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    return (
        f"{metrics['n_train']} clips trained and {metrics['n_validation']} validated ({metrics['split']}). "
        f"{metrics['n_epochs']} of {params['epochs']} epochs in batches of {params['batch_size']}; the weights are "
        f"those of epoch {metrics['best_epoch']}. Muon (learning rate {params['muon_lr']}) updates matrix-shaped "
        f"weights and AdamW ({params['adam_lr']}) the rest, weight decay {params['weight_decay']}, "
        f"label smoothing {params.get('label_smoothing', 0.0)}, warm-up over {params['warmup_ratio']:.0%} of the "
        "steps, then cosine."
    )


def _evaluation(validation: Mapping[str, float] | None) -> str:
    if not validation:
        return "No validation clips were held out in training; evaluate on clips of your own."
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in validation.items())
    return (
        f"On the validation clips, which also chose the epoch, so a little optimistic:\n\n| score | value |\n"
        f"| --- | --- |\n{rows}"
    )
