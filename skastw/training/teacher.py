"""The teacher: a small convolutional network that is trained first, and whose outputs a network learns to match."""

from dataclasses import replace

from skastw.data.dataset import Data
from skastw.encoders import ResNetEncoder
from skastw.errors import ComponentError
from skastw.features import FeaturesModule
from skastw.network.components import Components
from skastw.pooling import AttentiveStatsPooling
from skastw.training.run import Run, start_run
from skastw.training.transfer import Start

#: The encoder and the pooling of a teacher.
ENCODER = ResNetEncoder(width=16, num_stages=3, num_blocks=1, dropout=0.1, frame_step=2)
POOLING = AttentiveStatsPooling(hidden=64)
#: Largest number of epochs of a teacher.
MOST_EPOCHS = 30


def start_teacher(run: Run, components: Components, data: Data, front_end: FeaturesModule, start: Start) -> Run | None:
    """Return the run of the teacher of a new run, which is not trained yet, or None if the run has no teacher.

    The teacher takes the same frames as its pupil. It is trained on the training clips alone, and its last epoch is
    kept. Its random numbers come from generators of its own.

    Parameters
    ----------
    run : Run
        The run of the pupil.
    components : Components
        The components of the pupil.
    data : Data
    front_end : FeaturesModule
        The built front end, which both networks share.
    start : Start
        Weights that the pupil gets.

    Raises
    ------
    ComponentError
        If ``teacher="resnet"`` and the front end is trained, the head is fitted exactly, or there are no labels.

    References
    ----------
    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Touvron et al., "Training Data-Efficient Image
    Transformers & Distillation through Attention", 2021 (a convolutional teacher for a transformer).
    """
    if not has_teacher(run, components, start):
        return None
    if run.settings.solver == "lbfgs" or not run.targets.taught:
        raise ComponentError(
            f"Got teacher='resnet' with solver={run.settings.solver!r} and {run.targets.name} as the task, expected "
            "teacher=None: an exact fit and a pretraining do not match the outputs of a teacher."
        )
    if components.features.trainable:
        raise ComponentError(
            f"Got teacher='resnet' with features={components.features.name!r}, which is trained, expected a front end "
            "that is not: the teacher and its pupil share the frames; set teacher=None."
        )
    own = replace(components, encoder=ENCODER, pooling=POOLING, side=None, n_models=1)
    settings = replace(
        run.settings,
        n_epochs=min(MOST_EPOCHS, run.settings.n_epochs),
        n_refit=min(MOST_EPOCHS, run.settings.n_refit),
        muon_lr=0.01,
        adam_lr=0.001,
        weight_decay=0.02,
        warmup_ratio=0.1,
        ema_decay=0.98,
        keep="last",
        patience=None,
        teacher=None,
    )
    teacher = start_run(own, run.targets, settings, replace(data, valid=None), front_end, Start(), run.loss)
    teacher.name = "teacher"
    return teacher


def has_teacher(run: Run, components: Components, start: Start) -> bool:
    """Return whether a run has a teacher.

    Parameters
    ----------
    run : Run
    components : Components
    start : Start
        Weights that the network of the run gets.
    """
    settings = run.settings
    if settings.teacher is None or settings.constant_lr:
        return False
    if settings.teacher == "resnet":
        return True
    if settings.solver == "lbfgs" or not run.targets.taught:
        return False

    is_new = start.trained is None and not components.sources
    frames = components.features
    return is_new and components.encoder.data_hungry and frames.log_mel and not frames.trainable
