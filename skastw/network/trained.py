"""The fitted model as a value, which is saved, loaded, exported, explained and served."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta, Struct, to_builtins

from skastw.errors import ArtifactError, plain
from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.storage.schema import Finite, check
from skastw.targets import Targets

_Number = Annotated[int, Meta(ge=-(2**53), le=2**53, description="a finite number")] | Finite
_Interval = Annotated[list[_Number], Meta(min_length=2, max_length=2, description="two finite numbers")]
_Count = Annotated[int, Meta(ge=0, le=2**53, description="a number of clips")]
_Seed = Annotated[int, Meta(ge=0, le=2**53, description="an integer of at least 0")]
_Positive = Annotated[int, Meta(ge=1, description="an integer of at least 1")]


class ClassScores(Struct, frozen=True, kw_only=True):
    """Scores of a class.

    Attributes
    ----------
    label : label
        The class.
    precision, recall, f1 : float
    support : int
        Number of clips of this class.
    """

    label: str | bool | int | float
    precision: _Number
    recall: _Number
    f1: _Number
    support: _Count | Annotated[float, Meta(ge=0, le=2**53, description="a number of clips")]


class TestScores(Struct, frozen=True, kw_only=True):
    """Scores on held-out test clips, in the form of :meth:`skastw.evaluation.Evaluation.to_dict`.

    Attributes
    ----------
    split : str
        Sentence that says which clips were held out.
    n_clips : int
    accuracy, macro_f1, uar : float
    intervals : dict of str to list of two floats
        Lower and upper bound of the confidence interval of each score.
    per_class : list of ClassScores
    """

    __test__ = False  # otherwise pytest collects a class of this name

    split: str = ""
    n_clips: _Count
    accuracy: _Number
    macro_f1: _Number
    uar: _Number
    intervals: dict[str, _Interval] = {}
    per_class: list[ClassScores] = []


class SelectionRow(Struct, frozen=True, kw_only=True):
    """Scores of a candidate on inner splits of the training clips, from which a model was selected.

    Attributes
    ----------
    model : str
        Name of the candidate.
    accuracy, macro_f1, uar, log_loss : float, optional
        Scores of the out-of-fold predictions; None if the candidate did not fit the budget.
    seconds : float
        Time of its folds (s).
    selected : bool
    status : str
        ``"complete"``, or the reason why there are no scores.
    """

    model: str
    accuracy: _Number | None = None
    macro_f1: _Number | None = None
    uar: _Number | None = None
    log_loss: _Number | None = None
    seconds: _Number
    selected: bool = False
    status: str = "complete"


class TrainingRecord(Struct, frozen=True, kw_only=True):
    """Data, scores and history of a training run: the content of ``metrics.json``.

    Attributes
    ----------
    n_train, n_validation : int
        Number of training and validation clips.
    split : str
        How the validation clips were chosen.
    data_sha256 : str or None
        SHA-256 of the frames, targets and weights, in order.
    clips_sha256 : list of str
        SHA-256 of the frames of the training clips, of the validation clips and of all clips. They show whether
        evaluated clips were used in ``fit``.
    versions : dict of str to str
        Versions of Python and the libraries.
    seed : int or None
        Seed that was drawn from ``random_state``; None if an earlier release saved the model.
    batch_size : int or None
    n_epochs : int
        Number of epochs that were trained.
    max_epochs : int or None
        Maximum number of epochs; None if ``partial_fit`` trained the model.
    n_refit : int
        Number of further epochs on all clips, after the best epoch was selected.
    interrupted : bool
        Whether Ctrl-C ended the training.
    best_epoch : int
        The epoch that was selected, counted from 1. The model has its weights, or what ``n_refit`` further epochs
        made of them.
    validation : dict of str to float, or None
        Scores of that epoch on the validation clips.
    per_class : list of ClassScores, or None
        Scores of each class on the validation clips.
    test : TestScores or None
        Scores on held-out test clips.
    selection : list of SelectionRow
        The candidates, if the model was selected from several.
    history : list of dict
        Losses, scores, learning rates and seconds of each epoch.
    """

    n_train: _Count
    n_validation: _Count
    split: str
    data_sha256: str | None = None
    clips_sha256: list[str] | None = None
    versions: dict[str, str] = {}
    seed: _Seed | None = None
    batch_size: _Positive | None = None
    n_epochs: _Positive
    max_epochs: _Positive | None = None
    n_refit: _Count = 0
    interrupted: bool = False
    best_epoch: _Positive
    validation: dict[str, _Number] | None = None
    per_class: list[ClassScores] | None = None
    test: TestScores | None = None
    selection: list[SelectionRow] = []
    history: Annotated[list[dict[str, _Number]], Meta(min_length=1, description="a row of numbers for each epoch")]

    def __post_init__(self) -> None:
        if self.n_epochs != len(self.history) or self.best_epoch > len(self.history) - self.n_refit:
            further = f", of which {self.n_refit} are a refit" if self.n_refit else ""
            raise ValueError(
                f"best_epoch or n_epochs do not fit {len(self.history)} epochs in history{further}: got "
                f"best_epoch={self.best_epoch} and n_epochs={self.n_epochs}"
            )
        if self.max_epochs is not None and self.max_epochs < self.n_epochs:
            raise ValueError(f"max_epochs is {self.max_epochs}, expected at least n_epochs, {self.n_epochs}")
        for position, row in enumerate(self.history):
            if "epoch" not in row:
                raise ValueError(f"history[{position}] is {row!r:.100}, expected a row with epoch")


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted model.

    Attributes
    ----------
    components : Components
        Copies of the components from the time of ``fit``.
    model : AudioModel
        The network with the weights of the best epoch, on the CPU and in evaluation mode.
    targets : Targets
        Meaning of the outputs of the network, such as the classes.
    record : TrainingRecord
        Data, scores and history of training.
    params : dict
        Other parameters of the estimator at the time of ``fit``.
    """

    components: Components
    model: AudioModel
    targets: Targets
    record: TrainingRecord
    params: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(trained: Trained) -> str:
    """Return the SHA-256 of everything in a model that predictions depend on: components, targets and weights.

    Parameters
    ----------
    trained : Trained

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.network.trained import fingerprint
    >>> clf = ASTWClassifier(epochs=1, encoder="rnn", val_split=None).fit(*make_tones(8, random_state=0))
    >>> len(fingerprint(clf.trained_))
    64
    """
    parts = [trained.components.to_config(), trained.targets.name, trained.targets.to_json()]
    digest = hashlib.sha256(json.dumps(parts, default=repr).encode())
    for name, tensor in trained.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def held_out_scores(scores: Mapping[str, Any]) -> TestScores:
    """Return checked scores on held-out test clips.

    Parameters
    ----------
    scores : mapping or None
        The dict ``evaluate(...).to_dict()``, optionally with a sentence under ``split`` that says which clips were
        held out.

    Raises
    ------
    ArtifactError
        If a score is missing or is not a finite number.

    Examples
    --------
    >>> from skastw.network.trained import held_out_scores
    >>> held_out_scores({"n_clips": 8, "accuracy": 0.5, "macro_f1": 0.4, "uar": 0.5}).accuracy
    0.5
    """
    try:
        return check(to_builtins(scores, enc_hook=plain), TestScores, "test", ArtifactError)  # may have NumPy numbers
    except (ArtifactError, TypeError) as error:
        raise ArtifactError(f"{error} Expected scores in the form of evaluate(...).to_dict().") from None
