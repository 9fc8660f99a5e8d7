"""A call of ``fit`` or ``partial_fit``, whose results the estimator gets at the end."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skastw.core.device import retained_heap
from skastw.core.warn import warn_user
from skastw.data.dataset import Data
from skastw.data.extraction import check_clips
from skastw.data.failures import FailedClip, FailedClips
from skastw.features import FeaturesModule
from skastw.network.components import Components
from skastw.network.model import AudioModel, load_trained_state
from skastw.network.trained import Trained
from skastw.targets import Targets
from skastw.training import Monitor, Run, TrainingSettings, start_run, train, trained_from
from skastw.training.run import Loss
from skastw.training.teacher import start_teacher
from skastw.training.transfer import Start


@dataclass
class Attempt:
    """State of a call of ``fit`` or ``partial_fit``; if it succeeds, the estimator gets the attributes :meth:`learned`.

    Attributes
    ----------
    components : Components
    drawn_seed : int
        Seed that was drawn from ``random_state``.
    params : dict
        Other parameters, which are saved with the fitted model.
    before : Trained or None
        Fitted model that this call trains further, as in ``partial_fit``.
    failed : list of FailedClip
        Clips that were left out.
    n_features : dict
        ``n_features_in_`` and ``feature_names_in_``, if X is an array.
    start : Start
        Where the weights come from.
    data : Data or None
    run : Run or None
    built_front_end : FeaturesModule or None
        See :attr:`front_end`.
    finished : bool
        Whether training has ended; the network of the run then has the weights that are kept.
    """

    components: Components
    drawn_seed: int
    params: dict[str, Any]
    before: Trained | None = None
    failed: list[FailedClip] = field(default_factory=FailedClips)
    n_features: dict[str, Any] = field(default_factory=dict)
    start: Start = field(default_factory=Start)
    data: Data | None = None
    run: Run | None = None
    finished: bool = False
    built_front_end: FeaturesModule | None = None

    @property
    def seed(self) -> int:
        """The seed of this run. Each call of ``partial_fit`` has another seed."""
        return (self.drawn_seed + (self.before.record.n_epochs if self.before else 0)) % 2**31

    @property
    def front_end(self) -> FeaturesModule:
        """The front end with its weights, which is built when it is needed for the first time."""
        if self.built_front_end is None:
            self.built_front_end = self.start.build_front_end(self.components, (self.seed + 1) % 2**31)
        return self.built_front_end

    def check_clips(self, estimator: Any, X: Any, *, reset: bool) -> Sequence[Any]:
        """Return X as clips; see :func:`skastw.data.extraction.check_clips`. The estimator does not change."""
        probe = copy.copy(estimator)
        vars(probe).update(self.n_features)
        clips = check_clips(probe, X, reset=reset)
        names = ("n_features_in_", "feature_names_in_")
        self.n_features = {name: vars(probe)[name] for name in names if name in vars(probe)}
        return clips

    def start_run(self, targets: Targets, settings: TrainingSettings, *, loss: Loss) -> Run:
        """Return a new run on :attr:`data`, with its teacher."""
        assert self.data is not None
        run = start_run(self.components, targets, settings, self.data, self.front_end, self.start, loss)
        run.teacher = start_teacher(run, self.components, self.data, self.front_end, self.start)
        return run

    def train(self, run: Run, data: Data, *, monitor: Monitor | None = None, checkpoint: Path | None = None) -> None:
        """Train; raise the exception that ended training, except for an interrupt after the first epoch."""
        with retained_heap():
            train(run, data, monitor=monitor, checkpoint=checkpoint)
        self.finished = True

        if isinstance(run.stopped, KeyboardInterrupt) and run.best["epoch"]:
            epochs = run.settings.n_epochs
            in_refit = run.settings.n_refit and (run.done or run.epoch == epochs)
            at = "the refit" if in_refit else f"epoch {min(run.epoch + 1, epochs)} of {epochs}"
            warn_user(f"Training was interrupted in {at}; the weights of epoch {run.best['epoch']} are kept.")
        elif run.stopped is not None:
            raise run.stopped

    def trained(self, model: AudioModel | None = None) -> Trained | None:
        """Return the fitted model with the best weights so far, or None before the end of the first epoch."""
        if self.run is None or self.data is None or not self.run.best["epoch"]:
            return None
        if model is None and not self.finished:  # an exception outside the loop, such as SystemExit
            self.run.refit = None
            load_trained_state(self.run.model, self.run.best["weights"])
        seed = self.before.record.seed if self.before else self.drawn_seed
        return trained_from(self.run, self.data, self.components, seed=seed, params=self.params, model=model)

    def copy(self, run: Run) -> dict[str, Any]:
        """Return the fitted attributes of a copy of the estimator, for callbacks during and after training."""
        model = run.model if self.finished else run.average.model
        return {"trained_": self.trained(copy.deepcopy(model)), "failed_": self.failed, **self.n_features}

    def learned(self) -> dict[str, Any]:
        """Return the attributes of the fitted estimator.

        Only ``partial_fit`` keeps the momenta. They refer to their model, because a user may replace ``trained_``.
        """
        assert self.run is not None
        trained, momenta = self.trained(), None
        if self.run.settings.constant_lr:
            states = {
                name: {n: {k: v.cpu() for k, v in m.items()} for n, m in state.items()}
                for name, state in self.run.momenta.items()
            }
            momenta = (trained, states)
        return {"trained_": trained, "failed_": self.failed, **self.n_features, "_momenta": momenta}
