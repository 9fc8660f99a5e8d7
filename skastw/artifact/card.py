"""The model card: the README.md of a saved model, with metadata for the Hugging Face Hub."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup
from msgspec import to_builtins

from skastw.core.optional import how_to_install
from skastw.core.templates import render
from skastw.core.version import __version__
from skastw.network.model import count_parameters
from skastw.network.trained import Trained, TrainingRecord

#: Scores in ``metrics.json`` for which the Hub has a metric, as fields of ``huggingface_hub.EvalResult``.
_HUB_METRICS: dict[str, dict[str, Any]] = {
    "accuracy": {"metric_type": "accuracy", "metric_name": "Accuracy"},
    "macro_f1": {"metric_type": "f1", "metric_name": "Macro-F1", "metric_args": {"average": "macro"}},
    "uar": {"metric_type": "recall", "metric_name": "Unweighted average recall", "metric_args": {"average": "macro"}},
    "r2": {"metric_type": "r_squared", "metric_name": "R2"},
}

#: Notes on the reliability of the validation scores, by how the validation clips were chosen.
_SPLITS = {
    "random split, stratified where possible": (
        "They were drawn at random from the same clips, so they may share speakers, rooms and recordings with the "
        "training clips. Expect lower scores on new ones."
    ),
    "whole groups held out": (
        "They are whole groups, such as speakers or recordings, and the model was not trained on any clip of these "
        "groups."
    ),
    "validation clips given by the caller": "They were chosen by the person who trained the model.",
}


def model_card(trained: Trained, *, title: str, estimator: str) -> str:
    """Return the text of the model card.

    Parameters
    ----------
    trained : Trained
    title : str
        Name of the model.
    estimator : str
        Name of the class that loads the model.

    Returns
    -------
    str
        Markdown with a YAML header.
    """
    title = " ".join(title.split())
    record, components, targets = trained.record, trained.components, trained.targets
    described = {**components.parts, "augment": list(components.augment)}

    return render(
        "skastw.artifact",
        "card.md",
        header=Markup(_header(title, record, components.sources)),
        sources=components.sources,
        n_total=sum(weight.numel() for weight in trained.model.parameters()),
        title=title,
        estimator=estimator,
        version=__version__,
        installation=Markup(how_to_install(mark="`")),
        noun=targets.noun,
        purpose=targets.purpose,
        limits=targets.limits,
        classifies=targets.estimator == "classifier",
        labels=targets.labels,
        n_parameters=count_parameters(trained.model),
        components=components,
        settings={kind: _complete(part) for kind, part in described.items()},
        params=trained.params,
        record=record,
        epochs=f"{record.n_epochs}{f' of {record.max_epochs}' if record.max_epochs else ''} epochs",
        batch_size=trained.params["batch_size"],
        scores=("accuracy", "macro_f1", "uar"),
        chosen_by_validation=trained.params.get("keep", "best") == "best",
        split_words=_SPLITS.get(record.split),
        code=_code,
        text=_text,
    )


def _complete(part: Any) -> str:
    """Return a component or a list of components as text that is not abbreviated."""
    if isinstance(part, list):
        return f"[{', '.join(map(_complete, part))}]"
    return part.__repr__(N_CHAR_MAX=10**6)


def _header(title: str, record: TrainingRecord, sources: Sequence[Mapping[str, str]]) -> str:
    """Return the YAML header, from which the Hub reads metadata."""
    from huggingface_hub import EvalResult, ModelCardData

    scores: dict[str, Any] = record.validation or {}
    dataset, split = "validation split of the training data", "validation"
    if record.test is not None:
        scores, dataset, split = to_builtins(record.test), "clips held out for testing", "test"

    results = [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio classification",
            dataset_type="private",
            dataset_name=dataset,
            dataset_split=split,
            metric_value=round(float(scores[name]), 4),
            **metric,
        )
        for name, metric in _HUB_METRICS.items()
        if name in scores
    ]
    licences = sorted({source["license"] for source in sources if "license" in source})
    data = ModelCardData(
        library_name="skastw",
        pipeline_tag="audio-classification",
        tags=["audio-classification", "skastw", "scikit-learn", *([] if sources else ["trained-from-scratch"])],
        base_model=[source["weights"] for source in sources if "commit" in source] or None,
        license=licences[0] if len(licences) == 1 else None,
        metrics=[result.metric_type for result in results] or None,
        eval_results=results or None,
        model_name=title if results else None,
    )
    return data.to_yaml()


def _text(value: str) -> Any:
    """Return a text as one line of Markdown, with HTML escaped."""
    return Markup(escape(" ".join(value.split()), quote=False))


def _code(value: Any) -> Any:
    """Return a value as inline code of Markdown, escaped for a cell of a table."""
    text = " ".join(str(value).split()).replace("`", "'")
    # in "\\|" the first backslash would escape the second
    text = re.sub(r"\\+(?=\|)", lambda slashes: slashes[0] + " ", text)
    return Markup("`" + text.replace("|", "\\|") + "`")
