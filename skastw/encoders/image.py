"""Networks for images, of Hugging Face's transformers."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import clone

from skastw.core.parameters import param, parameters
from skastw.core.shapes import ShapesOnly
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._families import read_settings
from skastw.encoders._image_families import ARCHITECTURES, IMAGE_FAMILIES, image_stride, read_image_inputs
from skastw.encoders._image_networks import ImageNetwork
from skastw.encoders._library import LibraryEncoder
from skastw.errors import ComponentError


@parameters
class ImageEncoder(LibraryEncoder):
    """A network for images on spectrograms: ResNet, ConvNeXt, EfficientNet, ViT or Swin of Hugging Face's transformers.

    It is trained from scratch, or starts from a checkpoint that was trained on images. The frames of any front end are
    a picture with one row for each frame and one column for each frequency bin. An output frame is the mean over
    frequency of the last map of the network, or of its last patches.

    ================  =======================================================  =========================================
    ``model_type``    ``architecture``                                         frames for each output
    ================  =======================================================  =========================================
    ``resnet``        ``"resnet-10"``, ``"resnet-18"``, ``"resnet-34"``,       32
                      ``"resnet-50"``
    ``convnext``      ``"convnext-atto"``, ``"convnext-nano"``,                32
                      ``"convnext-tiny"``
    ``efficientnet``  ``"efficientnet-b0"``, ``"efficientnet-b1"``             32
    ``vit``           ``"vit-tiny"``, ``"vit-small"``, ``"vit-base"``          16
    ``swin``          ``"swin-tiny"``                                          32
    ================  =======================================================  =========================================

    A picture has the size of the clip, rounded up to a multiple of the frames for each output (in frequency, to at
    least two times as many) by zeros after the end and above the highest bin. A front end with more bins and a shorter
    hop gives larger pictures, for example ``LogMel(n_mels=128, hop_length=80)``. The positions of ViT are interpolated
    to the size of each picture.

    Padding a clip does not change its outputs. The layers of ResNet, ConvNeXt and EfficientNet mask the padding. ViT
    and Swin process the clips of each rounded length in a batch separately, which takes longer if there are many.

    Only safetensors and JSON are read. ``fit`` adds ``config``, ``preprocessor`` and ``source`` to the encoder of the
    fitted model. A saved folder contains the weights, so it loads without the checkpoint. With ``weights``, batch norms
    always use their stored statistics; otherwise they learn those of the real frames of each batch.

    Parameters
    ----------
    {parameters}

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2016.
    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019.
    Dosovitskiy et al., "An Image Is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2021.
    Liu et al., "Swin Transformer: Hierarchical Vision Transformer Using Shifted Windows", 2021.
    Liu et al., "A ConvNet for the 2020s", 2022.
    Amiriparian et al., "Snore Sound Classification Using Image-Based Deep Spectrum Features", 2017 (networks trained on
    images, on spectrograms).

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ImageEncoder
    >>> encoder = ImageEncoder(config={"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16]})
    >>> module = encoder.build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.randn(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 3, 16), [3, 2])
    """

    name = "image"
    required = ("config",)

    architecture: str = param(
        default="resnet-10",
        valid=[StrOptions(set(ARCHITECTURES))],
        doc="Network without ``weights``. ``config`` changes its settings. It is ignored if ``config`` has a "
        "``model_type``.",
    )
    scaling: str = param(
        default="range",
        valid=[StrOptions({"none", "range", "standard"})],
        doc='How a clip becomes a picture. With ``"range"``, its values are scaled to the range of 0 to 1, as those of '
        'an image. With ``"standard"``, they get mean 0 and variance 1. With ``"none"``, they stay as they are. After '
        '``"range"`` and ``"none"``, ``image_mean`` of ``preprocessor`` is subtracted, and the result is divided by '
        "``image_std``.",
    )
    config: dict[str, Any] | None = param(
        default=None,
        valid=[dict, None],
        doc="Settings of the network, with the names of ``config.json``; by default those of the checkpoint, or of "
        "``architecture``.",
    )
    preprocessor: dict[str, Any] | None = param(
        default=None,
        valid=[dict, None],
        doc="``image_mean`` and ``image_std``, lists with a value for each channel, with the names of "
        "``preprocessor_config.json``; by default those of the checkpoint, or 0.5 if there are none.",
    )

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return float(image_stride(self._settings()))

    def resolved(self, sample_rate: int, chunk_length: float) -> Self:
        """Return the encoder with the settings of the checkpoint; see :class:`~skastw.core.component.Component`."""
        encoder = super().resolved(sample_rate, chunk_length)
        inputs = read_image_inputs(encoder.preprocessor)
        return clone(encoder).set_params(config=encoder._settings(), preprocessor=inputs)

    def build(self, n_features: int, max_frames: int) -> ImageNetwork:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return self._build(n_features)

    def check_params(self) -> None:
        """Raise ComponentError if a parameter is not valid; see :class:`~skastw.core.component.Component`."""
        super().check_params()
        config = self.config or {}
        if "model_type" in config and config["model_type"] not in list(IMAGE_FAMILIES):
            raise ComponentError(
                f"Got config with model_type={config['model_type']!r:.100}, expected one of "
                f"{', '.join(IMAGE_FAMILIES)}."
            )

    def _shapes(self, most: int = 100_000) -> ImageNetwork:
        """Return the module without memory for its weights, of which there may be ``most``."""
        with ShapesOnly(most):
            return self._build(1)

    def _build(self, n_features: int) -> ImageNetwork:
        return ImageNetwork(
            self._settings(),
            read_image_inputs(self.preprocessor),
            scaling=self.scaling,
            n_features=n_features,
            keeps_statistics=self.weights is not None,
        )

    def _settings(self) -> dict[str, Any]:
        """Return the settings of the network."""
        config = self.config or {}
        if "model_type" not in config:
            if self.weights is not None:
                raise ComponentError(
                    f"Got config={self.config!r:.200} with weights={str(self.weights)!r}, expected None, so that fit "
                    "reads the settings of the checkpoint, or all settings, with 'model_type'."
                )
            config = {**ARCHITECTURES[self.architecture], **config}
        self.check_params()
        return read_settings(IMAGE_FAMILIES[config["model_type"]], config)
