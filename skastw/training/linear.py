"""Linear layers that are fitted exactly: the head of a network without other weights, and the side vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from skastw.core.parameters import param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.data.frames import FrameSet
from skastw.errors import TrainingError
from skastw.features import FeaturesModule
from skastw.network.model import SideModule
from skastw.targets import Targets

#: Most iterations of the solver.
_MAX_ITERATIONS = 1000


@parameters
class LinearParams:
    """Parameters of linear layers that are fitted exactly."""

    solver: str = param(
        default="gradient",
        valid=[StrOptions({"gradient", "lbfgs"})],
        doc='``"gradient"`` trains the network in epochs. ``"lbfgs"`` fits the head exactly, as a logistic or a ridge '
        "regression on the embeddings, without augmentation. No other part of the network may have weights to train, "
        'as with ``encoder="identity"`` or frozen pretrained weights.',
    )
    C: float = param(
        default=1.0,
        valid=[reals(0, None, closed="neither")],
        doc='Inverse strength of the L2 penalty of ``solver="lbfgs"`` and of the linear layer on the side vector. It '
        "is divided by the number of inputs of the layer, so that the same value suits short and long vectors.",
    )
    side_share: float = param(
        default=0.5,
        valid=[reals(0, 1, closed="both")],
        doc="Share of the side vector in the outputs; the network has the rest.",
    )


def fit_linear(
    vectors: Tensor,
    targets: Tensor,
    weights: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    n_outputs: int,
    C: float,
) -> nn.Linear:
    """Return the linear layer with the least weighted mean of the loss plus an L2 penalty on its weights.

    The objective for the standardised vectors z_i, the weights w_i of the clips, of sum n, and D values in a vector is
    ``sum_i w_i loss(A z_i + b, y_i) / n + D |A|^2 / (2 C n)``: with the cross-entropy, the objective of scikit-learn's
    ``LogisticRegression(C=C / D)``. For convex losses, the solution does not depend on a seed.

    Parameters
    ----------
    vectors : Tensor of shape (n, D)
    targets : Tensor of shape (n,) or (n, K)
        Encoded targets.
    weights : Tensor of shape (n,)
    loss : callable
        ``(outputs (n, K), targets) -> losses (n,)``, differentiable.
    n_outputs : int
        Number K of outputs.
    C : float
        Inverse strength of the penalty.

    Returns
    -------
    Linear
        It takes vectors that are not standardised, and has float64 weights.

    Raises
    ------
    TrainingError
        If the solver finds no finite solution.

    Examples
    --------
    >>> import torch
    >>> from torch.nn import functional as F
    >>> from skastw.training.linear import fit_linear
    >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1, 1])
    >>> layer = fit_linear(x, y, torch.ones(4), lambda a, b: F.cross_entropy(a, b, reduction="none"), 2, C=10.0)
    >>> layer(x.double()).argmax(dim=1).tolist()
    [0, 0, 1, 1]
    """
    vectors, weights = vectors.double(), weights.double()
    mean, scale = moments(vectors, weights)
    inputs = (vectors - mean) / scale
    total, width = weights.sum(), inputs.shape[1]
    penalty = width / (2 * C * total)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        layer = torch.from_numpy(flat).view(n_outputs, width + 1).requires_grad_()
        losses = loss(inputs @ layer[:, :-1].T + layer[:, -1], targets)
        value = (losses * weights).sum() / total + penalty * layer[:, :-1].square().sum()
        [gradient] = torch.autograd.grad(value, layer)
        return value.item(), gradient.flatten().numpy()

    start, options = np.zeros(n_outputs * (width + 1)), {"maxiter": _MAX_ITERATIONS, "gtol": 1e-6}
    result = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    if not np.isfinite(result.fun) or not np.isfinite(result.x).all():
        raise TrainingError(f"The solver of a linear layer ended with the objective {result.fun}, expected a number.")

    solution = torch.from_numpy(result.x).view(n_outputs, width + 1)
    slope = solution[:, :-1] / scale
    layer = nn.Linear(width, n_outputs, dtype=torch.float64, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(slope)
        layer.bias.copy_(solution[:, -1] - slope @ mean)
    return layer


def moments(vectors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and standard deviation of each column; 1 for constant columns.

    Parameters
    ----------
    vectors : Tensor of shape (n, D)
    weights : Tensor of shape (n,)
    """
    shares = (weights / weights.sum())[:, None]
    mean = (shares * vectors).sum(dim=0)
    scale = (shares * (vectors - mean).square()).sum(dim=0).sqrt()
    return mean, torch.where(scale > 1e-6 * mean.abs().clamp(min=1e-6), scale, 1.0)


def fit_side(
    features: FeaturesModule, train_set: FrameSet, targets: Targets, params: LinearParams, dtype: torch.dtype
) -> SideModule:
    """Return the linear layer on the side vectors of the training clips.

    Parameters
    ----------
    features : FeaturesModule
        The built front end of the side vectors.
    train_set : FrameSet
    targets : Targets
    params : LinearParams
    dtype : torch.dtype
        Number format of the weights.
    """
    assert train_set.side is not None
    side = SideModule(features, targets.n_outputs)
    mean, scale = moments(train_set.side.double(), train_set.weights.double())
    side.mean, side.scale = mean.to(dtype), scale.to(dtype)
    side.share = torch.tensor(params.side_share, dtype=dtype)

    vectors = side(train_set.side)
    layer = fit_linear(vectors, train_set.targets, train_set.weights, targets.loss, targets.n_outputs, params.C)
    side.linear = layer.to(dtype)
    return side
