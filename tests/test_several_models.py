"""Several networks side by side: their logits are averaged, their losses are their own."""

import numpy as np
import pytest
import torch

from helpers import torch_seed
from skastw import ASTWClassifier, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.features import LogMel
from skastw.network.model import build_model
from skastw.normalization import PerBinNormalization
from skastw.pooling import AttentiveStatsPooling

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1, dropout=0.0)


@pytest.fixture(scope="module")
def model():
    with torch_seed(0):
        parts = LogMel(), PerBinNormalization(), TINY, AttentiveStatsPooling()
        return build_model(*parts, n_outputs=3, sample_rate=16000, chunk_length=1.0, n_models=3).eval()


@pytest.fixture(scope="module")
def frames():
    return torch.randn(4, 20, 80, generator=torch.Generator().manual_seed(0)), torch.tensor([20, 20, 11, 1])


def test_logits_are_the_mean_of_the_models(model, frames):
    by_model = model.classify_each(*frames)
    assert len(by_model) == 3
    torch.testing.assert_close(torch.stack(by_model).mean(dim=0), model.classify(*frames))
    assert not torch.allclose(by_model[0], by_model[1], atol=1e-3)


def test_a_models_loss_reaches_no_other_model(model, frames):
    model.zero_grad()
    model.classify_each(*frames)[1].square().sum().backward()
    reached = {name.split(".")[1] for name, w in model.encoder.named_parameters(prefix="e") if w.grad.abs().max() > 0}
    assert reached == {"1"}
    model.zero_grad()


def test_embeddings_stand_in_a_row(model, frames):
    embeddings = model.embed(*frames).chunk(3, dim=1)
    scaled = model.normalization(*frames)
    for embedding, encoder, pooling in zip(embeddings, model.encoder, model.pooling, strict=True):
        torch.testing.assert_close(embedding, pooling(*encoder(scaled, frames[1])))


@pytest.mark.parametrize("estimator", [ASTWClassifier, ASTWRegressor])
def test_several_models_are_fitted_saved_and_trained_further(estimator, tmp_path):
    clips, y = make_tones(n_clips=24, n_classes=2, random_state=0)
    fitted = estimator(encoder=TINY, n_models=2, epochs=3, ema_decay=0.9).fit(clips, y)
    assert fitted.transform(clips).shape == (24, 32)
    again = estimator.from_pretrained(fitted.save_pretrained(tmp_path / "two"))
    assert again.n_models == 2
    np.testing.assert_array_equal(again.predict(clips), fitted.predict(clips))
    one = estimator(encoder=TINY, epochs=3).fit(clips, y)
    assert one.transform(clips).shape == (24, 16)
    fitted.set_params(warm_start=True).fit(clips, y)
    assert fitted.model_.n_models == 2
