"""The feature sets of openSMILE, computed by its own package: one frame for each clip."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skastw.core.optional import import_optional
from skastw.core.parameters import parameters
from skastw.features._base import FeaturesModule, WholeClipFeatures, WholeClipModule

#: Shortest clip that openSMILE describes (s). Shorter ones are continued by silence.
_SHORTEST = 0.06


@parameters
class OpenSmileFeatures(WholeClipFeatures):
    """Base of the feature sets of openSMILE. Its package, the extra ``opensmile``, may be used for research only."""

    @property
    @abstractmethod
    def feature_set(self) -> str:
        """Name of the feature set in the package."""

    def value_names(self, sample_rate: int) -> list[str]:
        """Return the names that openSMILE gives to the values."""
        return self._smile().feature_names

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`.

        Raises
        ------
        MissingDependencyError
            If the extra ``opensmile`` is not installed.
        """
        return _OpenSmileModule(self._smile(), sample_rate)

    def _smile(self) -> Any:
        purpose = f"The front end {self.name!r}, whose licence is for research only,"
        opensmile = import_optional("opensmile", extra="opensmile", purpose=purpose)
        return opensmile.Smile(self.feature_set, opensmile.FeatureLevel.Functionals)


@parameters
class EGeMAPS(OpenSmileFeatures):
    """The 88 functionals of eGeMAPSv02, computed by the package ``opensmile``, whose licence is for research only.

    A clip has one frame. Clips shorter than 60 ms are continued by silence, and samples are rounded to 16 bits.
    Otherwise the values are those of the package. Padding a clip does not change its frame.

    References
    ----------
    Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and Affective Computing",
    2016.

    Examples
    --------
    >>> from skastw.features import EGeMAPS
    >>> module = EGeMAPS().build(16000)  # doctest: +SKIP
    >>> module.n_features  # doctest: +SKIP
    88
    """

    name = "egemaps"
    feature_set = "eGeMAPSv02"


@parameters
class ComParE(OpenSmileFeatures):
    """The 6373 functionals of ComParE 2016, computed by the package ``opensmile``, whose licence is for research only.

    A clip has one frame. Clips shorter than 60 ms are continued by silence, and samples are rounded to 16 bits.
    Otherwise the values are those of the package. Padding a clip does not change its frame.

    References
    ----------
    Schuller et al., "The INTERSPEECH 2016 Computational Paralinguistics Challenge", 2016.

    Examples
    --------
    >>> from skastw.features import ComParE
    >>> module = ComParE().build(16000)  # doctest: +SKIP
    >>> module.n_features  # doctest: +SKIP
    6373
    """

    name = "compare"
    feature_set = "ComParE_2016"


class _OpenSmileModule(WholeClipModule):
    def __init__(self, smile: Any, sample_rate: int) -> None:
        super().__init__()
        self.smile, self.sample_rate = smile, sample_rate
        self.n_features = len(smile.feature_names)

    def row(self, waveform: Tensor) -> Tensor:
        samples = waveform.detach().float().cpu().numpy()
        # the package wraps around at 1.0, and has no row for clips of a few frames
        samples = np.pad(
            samples.clip(-1, 32767 / 32768), (0, max(0, math.ceil(_SHORTEST * self.sample_rate) - len(samples)))
        )
        values = self.smile(samples[None], self.sample_rate)
        return torch.from_numpy(values.reshape(-1)).float().to(waveform.device)
