"""Base of the encoders that are networks of transformers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from sklearn.base import clone
from torch import Tensor

from skastw.core.parameters import param, parameters
from skastw.encoders._families import Family, names_of_network
from skastw.encoders._pretrained import PretrainedEncoder
from skastw.errors import ArtifactError, ComponentError, WeightsError
from skastw.storage.checkpoints import CONFIG, PREPROCESSOR, PROCESSOR, Checkpoint


@parameters
class LibraryEncoder(PretrainedEncoder):
    """Base of the encoders that are networks of transformers; ``required`` names what a checkpoint must have."""

    required: ClassVar[tuple[str, ...]] = ("config", "preprocessor")

    config: dict[str, Any] | None = param(
        default=None,
        valid=[dict, None],
        doc="Settings of the network, with the names of ``config.json``; by default those of the checkpoint.",
    )
    preprocessor: dict[str, Any] | None = param(
        default=None,
        valid=[dict, None],
        doc="Settings of the input, with the names of ``preprocessor_config.json``; by default those of the "
        "checkpoint.",
    )

    @abstractmethod
    def _shapes(self, most: int = 100_000) -> Any:
        """Return the module without memory for its weights, of which there may be ``most``.

        It has the attributes ``family`` and ``network``, and the method ``is_above``.
        """

    def defined_by(self, checkpoint: Checkpoint, sample_rate: int) -> dict[str, Any]:
        """Return the settings in the JSON files of a checkpoint, whose weights fit the network that they describe."""
        documents = checkpoint.documents
        nested = [documents.get(PROCESSOR, {}).get(name) for name in ("feature_extractor", "audio_processor")]
        found = [item for item in (documents.get(PREPROCESSOR), *nested) if isinstance(item, dict)]
        config = self.config if self.config is not None else documents.get(CONFIG)
        preprocessor = self.preprocessor if self.preprocessor is not None else next(iter(found), None)
        for name, value, file in (("config", config, CONFIG), ("preprocessor", preprocessor, PREPROCESSOR)):
            if value is None and name in self.required:
                raise WeightsError(
                    f"There is no {file} beside the weights {checkpoint.name!r}: pass its content as {name}=, or the "
                    "folder or repository that contains it."
                )

        encoder = clone(self).set_params(config=config, preprocessor=preprocessor)
        try:
            module, specs = encoder._shapes(most=2 * len(checkpoint.specs) + 64), checkpoint.specs
        except (ArtifactError, ComponentError) as error:
            raise WeightsError(f"The weights {checkpoint.name!r} cannot be used: {error}") from error
        own = module.state_dict()
        for name, stored in encoder._names(module, specs).items():
            if list(own[name].shape) != specs[stored].shape:
                raise WeightsError(
                    f"The weights {checkpoint.name!r} have {stored[:200]} of shape {specs[stored].shape}, expected "
                    f"{list(own[name].shape)}: they do not fit the settings in {CONFIG}."
                )
        return {"config": config, "preprocessor": preprocessor}

    def converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint by the names that they have in the module; half precision is converted."""
        return {
            name: tensors[stored].float() if tensors[stored].is_floating_point() else tensors[stored]
            for name, stored in self._names(self._shapes(), tensors).items()
        }

    def _names(self, module: Any, stored: Iterable[str]) -> dict[str, str]:
        """Return the names in the module of the weights in a checkpoint, with their names there.

        Raises
        ------
        WeightsError
            If weights are missing, or left over.
        """
        named = names_of_network(module.family, stored)
        found = {f"network.{name}": key for name, key in named.items() if not module.is_above(name)}
        expected = {name for name in module.state_dict() if name.startswith("network.")}
        for names, problem in ((expected - found.keys(), "lack"), (found.keys() - expected, "have the unknown")):
            if names:
                listed = ", ".join(name.removeprefix("network.")[:200] for name in sorted(names)[:3])
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise WeightsError(
                    f"The weights {str(self.weights)!r} {problem} {listed}{more}, so they do not belong to "
                    f"{self._what(module.family)}, or are incomplete."
                )
        return found

    def _what(self, family: Family) -> str:
        """Return what errors call the network."""
        return f"the {family.name} network" + (f" {str(self.weights)!r}" if self.weights else "")
