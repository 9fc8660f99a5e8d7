"""The model card: the README.md of an artifact, with the Hub's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["model_card"]

_TEXT = """\
# {title}

A compact audio classifier trained from scratch with [skastw](https://pypi.org/project/skastw/) {version}:
no pretrained weights, {n_parameters:,} parameters, {n_classes} classes.

## Use

```python
from {module} import {estimator}

model = {estimator}.from_pretrained("path-or-user/name")
model.predict(["clip.wav"])
model.predict_top_k("clip.wav", k=3)
```

or, in a shell, `skastw predict clip.wav --model path-or-user/name`. Clips may be of any length, rate and number
of channels: they are averaged to mono and resampled to {sample_rate} Hz.

## Labels

{labels}

## Training

{training}

| component | settings |
| --- | --- |
{components}

## Evaluation

{evaluation}

## Limits

The model knows the classes above and nothing else: it gives every sound one of these labels. It hears what its
training clips held, so check it on speakers, rooms and microphones of your own before relying on it.
"""


def model_card(
    *,
    title: str,
    module: str,
    estimator: str,
    version: str,
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
    labels : sequence
        The classes.
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
        n_classes=len(labels),
        sample_rate=sample_rate,
        labels=", ".join(f"`{label}`" for label in labels),
        training=_training(params, metrics),
        components="\n".join(f"| {kind} | `{settings}` |" for kind, settings in components.items()),
        evaluation=_evaluation(validation),
    )
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
            for kind, name, key in (("accuracy", "Accuracy", "accuracy"), ("f1", "Macro-F1", "macro_f1"))
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
        f"weights and AdamW ({params['adam_lr']}) the rest, weight decay {params['weight_decay']}, label smoothing "
        f"{params['label_smoothing']}, warm-up over {params['warmup_ratio']:.0%} of the steps, then cosine."
    )


def _evaluation(validation: Mapping[str, float] | None) -> str:
    if not validation:
        return "No validation clips were held out in training; evaluate on clips of your own."
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in validation.items())
    return (
        f"On the validation clips, which also chose the epoch, so a little optimistic:\n\n| score | value |\n"
        f"| --- | --- |\n{rows}"
    )
