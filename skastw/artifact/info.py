"""Description of a saved model, read from its folder without building the network."""

import os
from typing import Any

from skastw.artifact.folder import read_artifact
from skastw.core.component import KINDS

_COMPONENTS = [kind for kind in KINDS if kind != "augment"]
_TRAINING = ("best_epoch", "n_epochs", "interrupted", "seed", "split", "validation", "test", "versions")


def describe_model(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a description of a saved model. Only the header of the weights is read.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of JSON values
        ``estimator``, ``version`` (of skastw when the model was saved), ``format_version``, ``task``, ``labels``,
        ``sample_rate``, ``components`` (each with its parameters), ``augment``, ``params``, ``n_parameters`` (the
        result of :func:`skastw.network.model.count_parameters`; None for a model of an earlier release), ``weights``
        (number of tensors and bytes, including tensors that are not trained), ``best_epoch``, ``n_epochs``,
        ``interrupted``, ``seed`` (None if unknown), ``split``, ``validation`` and ``test`` (scores, or None) and
        ``versions`` (of the libraries during training).

    Raises
    ------
    ArtifactError
        If a file is missing, damaged or too large.

    Examples
    --------
    >>> import tempfile
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.artifact.info import describe_model
    >>> clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf = ASTWClassifier(epochs=1, encoder="rnn", val_split=None).fit(clips, y)
    ...     describe_model(clf.save_pretrained(folder))["labels"]
    [0, 1]
    """
    stored = read_artifact(folder)
    config, metrics = stored.config, stored.metrics
    params = config.get("params", {})

    return {
        "estimator": config.get("estimator"),
        "version": config.get("library_version"),
        "format_version": config.get("format_version"),
        "task": stored.labels.get("task"),
        "labels": stored.labels.get("labels"),
        "sample_rate": params.get("sample_rate"),
        "components": {kind: config.get(kind) for kind in _COMPONENTS},
        "augment": config.get("augment"),
        "params": params,
        "n_parameters": config.get("n_parameters"),
        "weights": {"tensors": len(stored.weights.specs), "bytes": stored.weights.size},
        **{name: metrics.get(name) for name in _TRAINING},
    }
