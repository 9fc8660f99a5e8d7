"""One call of ``fit``: what it has reached, whether or not it ends well."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skastw.core.device import retained_heap
from skastw.core.warn import warn_user
from skastw.data.dataset import Data
from skastw.data.extraction import check_clips
from skastw.data.failures import FailedClip
from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.network.trained import Trained
from skastw.training import Monitor, Run, train, trained_from

__all__ = ["Attempt"]


@dataclass
class Attempt:
    """What a call of ``fit`` or ``partial_fit`` has reached; the estimator takes over :meth:`learned` at its end.

    Attributes
    ----------
    components : Components
    drawn_seed : int
        The seed that ``random_state`` gave.
    params : dict
        The other parameters, for the fitted model.
    before : Trained or None
        The model that is trained further.
    failed : list of FailedClip
    n_features : dict
        ``n_features_in_`` and ``feature_names_in_``, if X is an array.
    data : Data or None
    run : Run or None
    """

    components: Components
    drawn_seed: int
    params: dict[str, Any]
    before: Trained | None = None
    failed: list[FailedClip] = field(default_factory=list)
    n_features: dict[str, Any] = field(default_factory=dict)
    data: Data | None = None
    run: Run | None = None

    @property
    def seed(self) -> int:
        """The seed of this run; each instalment has another one."""
        return (self.drawn_seed + (self.before.record.n_epochs if self.before else 0)) % 2**31

    def check_clips(self, estimator: Any, X: Any, *, reset: bool) -> Sequence[Any]:
        """Return X as clips; see :func:`skastw.data.extraction.check_clips`. The estimator stays as it is."""
        probe = copy.copy(estimator)
        vars(probe).update(self.n_features)
        clips = check_clips(probe, X, reset=reset)
        names = ("n_features_in_", "feature_names_in_")
        self.n_features = {name: vars(probe)[name] for name in names if name in vars(probe)}
        return clips

    def train(self, monitor: Monitor | None = None, checkpoint: Path | None = None) -> None:
        """Train; raise what ended training, unless it is an interrupt after an epoch."""
        assert self.run is not None
        assert self.data is not None
        with retained_heap():
            run = train(self.run, self.data, monitor=monitor, checkpoint=checkpoint)
        if isinstance(run.stopped, KeyboardInterrupt) and run.best["epoch"]:
            epochs = run.settings.epochs
            at = f"Training was interrupted in epoch {min(run.epoch + 1, epochs)} of {epochs}"
            warn_user(f"{at}; the weights of epoch {run.best['epoch']} are kept.")
        elif run.stopped is not None:
            raise run.stopped

    def trained(self, model: AudioModel | None = None) -> Trained | None:
        """Return the model that was reached, by default with the network of the run; None before the first epoch."""
        if self.run is None or self.data is None or not self.run.best["epoch"]:
            return None
        seed = self.before.record.seed if self.before else self.drawn_seed
        return trained_from(self.run, self.data, self.components, seed=seed, params=self.params, model=model)

    def copy(self, run: Run) -> dict[str, Any]:
        """Return the attributes that make another estimator fitted, in the middle of training."""
        return {"trained_": self.trained(copy.deepcopy(run.average.model)), "failed_": self.failed, **self.n_features}

    def learned(self) -> dict[str, Any]:
        """Return the attributes of the fitted estimator."""
        assert self.run is not None
        momenta = [{n: {k: v.cpu() for k, v in m.items()} for n, m in state.items()} for state in self.run.momenta]
        return {"trained_": self.trained(), "failed_": self.failed, **self.n_features, "_momenta": momenta}
