"""The fitted model as a value: everything that is saved, loaded, exported, explained and served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta, Struct, to_builtins

from skastw.errors import ArtifactError, plain
from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.storage.schema import Finite, check
from skastw.targets import Targets

__all__ = ["ClassScores", "TestScores", "Trained", "TrainingRecord", "held_out_scores"]

_Label = str | bool | int | float
_Number = Annotated[int, Meta(ge=-(2**53), le=2**53, description="a finite number")] | Finite
_Interval = Annotated[list[_Number], Meta(min_length=2, max_length=2, description="two finite numbers")]
_Count = Annotated[int, Meta(ge=0, le=2**53, description="a number of clips")]
_Positive = Annotated[int, Meta(ge=1, description="an integer of at least 1")]


class ClassScores(Struct, frozen=True, kw_only=True):
    """Scores of a class.

    Attributes
    ----------
    label : label
        The class.
    precision, recall, f1 : float
    support : int
        Clips of this class.
    """

    label: _Label
    precision: _Number
    recall: _Number
    f1: _Number
    support: _Number


class TestScores(Struct, frozen=True, kw_only=True):
    """Scores on clips that were held out for testing, as :meth:`skastw.evaluation.Evaluation.to_dict` gives them.

    Attributes
    ----------
    split : str
        Which clips were held out, in a sentence.
    n_clips : int
    accuracy, macro_f1, uar : float
    intervals : dict of str to list of two floats
        Lower and upper end of the interval of each score.
    per_class : list of ClassScores
    """

    __test__ = False  # pytest takes a class of this name for a test

    split: str = ""
    n_clips: _Count
    accuracy: _Number
    macro_f1: _Number
    uar: _Number
    intervals: dict[str, _Interval] = {}
    per_class: list[ClassScores] = []


class TrainingRecord(Struct, frozen=True, kw_only=True):
    """How training went, which is the content of ``metrics.json``.

    Attributes
    ----------
    n_train, n_validation : int
        Clips.
    split : str
        How the validation clips were chosen.
    data_sha256 : str or None
        Of the frames, targets and weights in their order.
    clips_sha256 : list of str
        Of the frames of the training clips, of the validation clips, and of all; evaluated clips are compared with
        them.
    versions : dict of str to str
        Of the libraries.
    seed : int or None
        What ``random_state`` gave; None if an earlier release saved the model.
    batch_size : int or None
    n_epochs : int
        Epochs that were trained.
    max_epochs : int or None
        The largest number of epochs; None for a model that was trained in instalments.
    interrupted : bool
        Whether Ctrl-C ended the training.
    best_epoch : int
        The epoch whose weights were kept, counted from 1.
    validation : dict of str to float, or None
        Scores of that epoch on the validation clips.
    per_class : list of ClassScores, or None
        Scores of each class on the validation clips.
    test : TestScores or None
        Scores on clips that were held out for testing.
    history : list of dict
        A row for each epoch.
    """

    n_train: _Count
    n_validation: _Count
    split: str
    data_sha256: str | None = None
    clips_sha256: list[str] | None = None
    versions: dict[str, str] = {}
    seed: int | None = None
    batch_size: int | None = None
    n_epochs: _Positive
    max_epochs: _Positive | None = None
    interrupted: bool = False
    best_epoch: _Positive
    validation: dict[str, _Number] | None = None
    per_class: list[ClassScores] | None = None
    test: TestScores | None = None
    history: Annotated[list[dict[str, _Number]], Meta(min_length=1, description="a row of numbers for each epoch")]

    def __post_init__(self) -> None:
        if self.n_epochs != len(self.history) or self.best_epoch > len(self.history):
            raise ValueError(f"best_epoch or n_epochs do not fit {len(self.history)} epochs")


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted model.

    Attributes
    ----------
    components : Components
        As they were when ``fit`` ran; nobody else has these objects.
    model : AudioModel
        The network with the weights that were kept, on the CPU, in evaluation mode.
    targets : Targets
        What the outputs of the network mean.
    record : TrainingRecord
        How training went.
    params : dict
        The other parameters of the estimator, as they were when ``fit`` ran.
    """

    components: Components
    model: AudioModel
    targets: Targets
    record: TrainingRecord
    params: Mapping[str, Any] = field(default_factory=dict)


def held_out_scores(scores: Mapping[str, Any] | None) -> TestScores | None:
    """Return checked scores of clips that were held out for testing, or None if there are none.

    Parameters
    ----------
    scores : mapping or None
        ``evaluate(...).to_dict()``, and under ``split`` a sentence that says which clips were held out.

    Raises
    ------
    ArtifactError
        If a score is missing or not a finite number.

    Examples
    --------
    >>> from skastw.network.trained import held_out_scores
    >>> held_out_scores({"n_clips": 8, "accuracy": 0.5, "macro_f1": 0.4, "uar": 0.5}).accuracy
    0.5
    """
    if scores is None:
        return None
    try:
        return check(to_builtins(scores, enc_hook=plain), TestScores, "test", ArtifactError)  # they may be of NumPy
    except (ArtifactError, TypeError) as error:
        raise ArtifactError(f"{error} Expected the scores as evaluate(...).to_dict() gives them.") from None
