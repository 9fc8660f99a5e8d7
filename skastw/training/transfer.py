"""Training that starts from the weights of another model."""

from skastw.core.component import component_to_config
from skastw.errors import ArtifactError
from skastw.features import Features, Precomputed
from skastw.network.model import AudioModel
from skastw.network.trained import Trained
from skastw.targets import Targets


def check_front_end(start: Trained, features: Features) -> None:
    """Raise ArtifactError unless the model to start from has the front end ``features`` of the new model."""
    theirs, ours = component_to_config(start.components.features), component_to_config(features)
    if theirs != ours and not isinstance(features, Precomputed):
        raise ArtifactError(f"The model of init_from has the front end {theirs}, expected {ours}.")


def transfer_weights(start: Trained, model: AudioModel, targets: Targets) -> None:
    """Copy the weights of ``start`` to a new model, except the head if the labels differ.

    Parameters
    ----------
    start : Trained
        Fitted model.
    model : AudioModel
        New network, which gets the weights.
    targets : Targets
        Targets of the new model.

    Raises
    ------
    ArtifactError
        If the networks do not match. The message names the first weight that differs.
    """
    own, weights = model.state_dict(), start.model.state_dict()
    transferred = own.keys() | weights.keys()
    if (start.targets.name, start.targets.to_json()) != (targets.name, targets.to_json()):
        transferred -= {name for name in transferred if name.startswith("head.")}

    for name in sorted(transferred):
        theirs, ours = (tuple(tensors[name].shape) if name in tensors else None for tensors in (weights, own))
        if theirs != ours:
            raise ArtifactError(
                f"The weights to start from have {name} of shape {theirs}, expected {ours}: set encoder, pooling, "
                "features, sample_rate and chunk_length of the estimator as in the model that it starts from."
            )
    model.load_state_dict({name: weights[name] for name in transferred}, strict=False)
