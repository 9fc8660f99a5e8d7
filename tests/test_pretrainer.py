"""Pretraining without labels: the task of the hidden frames, the estimator, and the training that starts from it."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from helpers import random_frames
from skastw import ASTWClassifier, ASTWFeaturizer, ASTWPretrainer, ASTWRegressor
from skastw.cli import cli
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder, ConvTransformerEncoder, PatchTransformerEncoder
from skastw.errors import ArtifactError, ClipError, ComponentError
from skastw.features import LogMel
from skastw.network.inference import ROUNDING
from skastw.network.model import build_model
from skastw.normalization import NoNormalization
from skastw.pooling import AttentiveStatsPooling, MeanPooling
from skastw.targets import MaskedFrames

CLIPS, Y = make_tones(n_clips=24, random_state=0)
TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
ENCODERS = [
    TINY,
    ConvTransformerEncoder(width=8, d_model=16, num_heads=2, num_layers=1),
    PatchTransformerEncoder(d_model=16, num_heads=2, num_layers=1, patch_frames=8),
]
SEED = torch.Generator().manual_seed(0)


def pretrainer(**params):
    return ASTWPretrainer(**{"encoder": TINY, "epochs": 2, **params})


def each_encoder(function):
    return pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)(function)


@pytest.fixture(scope="module")
def fitted():
    return pretrainer().fit(CLIPS)


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


# ------------------------------------------------------------------ the task


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_share_of_the_frames_is_hidden_in_spans_of_the_length(share):
    targets = MaskedFrames(4, 2, mask_share=share, mask_length=15)
    is_hidden = targets.draw(torch.full((200,), 600), 600, torch.Generator().manual_seed(1))
    assert float(is_hidden.float().mean()) == pytest.approx(share, abs=0.02)

    edges = np.diff(is_hidden.numpy().astype(int), axis=1)
    for row in edges[:20]:
        begins, ends = np.flatnonzero(row == 1), np.flatnonzero(row == -1)
        lengths = [ends[ends > begin].min() - begin for begin in begins if (ends > begin).any()]
        assert 9 <= min(lengths) <= max(lengths) <= 21
    assert len({tuple(row) for row in is_hidden.tolist()}) == 200


@pytest.mark.parametrize("length", [2, 3, 7, 20])
def test_short_clips_have_hidden_frames_and_others_and_padding_is_not_hidden(length):
    is_hidden = MaskedFrames(4, 2).draw(torch.full((400,), length), 40, torch.Generator().manual_seed(1))
    assert not is_hidden[:, length:].any()
    share = float(is_hidden[:, :length].float().mean())
    assert 0.35 < share < 0.65


def network(encoder, pooling=MeanPooling, **params):
    stride = int(encoder.stride)
    parts = LogMel(n_mels=20), NoNormalization(), encoder, pooling()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(*parts, n_outputs=20 * stride, sample_rate=16000, chunk_length=1.0, **params)
    return model.eval(), MaskedFrames(20, stride)


@each_encoder
@pytest.mark.parametrize("pooling", [MeanPooling, AttentiveStatsPooling])
def test_the_loss_depends_on_hidden_frames_only_and_the_network_does_not_see_them(encoder, pooling):
    model, targets = network(encoder, pooling)
    frames, lengths = random_frames([60, 41], 20)
    is_hidden = targets.draw(lengths, 60, torch.Generator().manual_seed(3))
    [outputs] = targets.errors(model, frames, lengths, is_hidden)

    # the prediction is the same for other values of the hidden frames: the error is that of this prediction
    [predicted] = model.classify_frames_each(frames.masked_fill(is_hidden[:, :, None], 0.0), lengths)
    predicted = predicted.unflatten(2, (targets.stride, 20)).flatten(1, 2)[:, :60]
    for hidden in (frames, frames * 3.0):
        [changed] = targets.errors(model, torch.where(is_hidden[:, :, None], hidden, frames), lengths, is_hidden)
        for item in range(2):
            error = (predicted[item] - hidden[item])[is_hidden[item]].square().mean()
            torch.testing.assert_close(changed[item, 0], error)
            torch.testing.assert_close(changed[item, 1], hidden[item][is_hidden[item]].square().mean())

    # a visible frame has no part in the loss beside what the network learns from it
    frames.requires_grad_()
    model.requires_grad_(False)
    head = model.head.weight.data.clone()
    model.head.weight.data.zero_()  # nothing reaches the predictions, so only the targets are left
    targets.errors(model, frames, lengths, is_hidden)[0][:, 0].sum().backward()
    model.head.weight.data.copy_(head)
    assert (frames.grad[~is_hidden] == 0).all()
    assert (frames.grad[is_hidden] != 0).any(dim=1).all()
    assert outputs.shape == (2, 2)


@each_encoder
def test_padding_changes_no_error(encoder):
    model, targets = network(encoder)
    frames, lengths = random_frames([60, 41], 20)
    with torch.inference_mode():
        together = targets.embed(model, frames, lengths)
        alone = targets.embed(model, frames[1:, :41], lengths[1:])
        padded = targets.embed(model, torch.nn.functional.pad(frames, (0, 0, 0, 30)), lengths)
    torch.testing.assert_close(together[1:], alone, atol=ROUNDING, rtol=ROUNDING)
    torch.testing.assert_close(together, padded, atol=ROUNDING, rtol=ROUNDING)


def test_a_training_step_leaves_out_no_frames():
    model, targets = network(ASTWEncoder(d_model=16, num_heads=2, num_layers=1, dropout=0.0, drop_frames=0.9))
    frames, lengths = random_frames([60, 41], 20)
    is_hidden = targets.draw(lengths, 60, torch.Generator().manual_seed(3))
    [training] = targets.errors(model.train(), frames, lengths, is_hidden)
    [evaluation] = targets.errors(model.eval(), frames, lengths, is_hidden)
    torch.testing.assert_close(training, evaluation)


def test_networks_side_by_side_have_a_loss_each():
    model, targets = network(TINY, n_models=2)
    frames, lengths = random_frames([60, 41], 20)
    first, second = targets.errors(model, frames, lengths, targets.draw(lengths, 60, SEED))
    assert (first[:, 0] != second[:, 0]).all()
    torch.testing.assert_close(first[:, 1], second[:, 1])


# ------------------------------------------------------------------ the estimator


@each_encoder
def test_the_losses_fall(encoder):
    history = pretrainer(encoder=encoder, epochs=12).fit(CLIPS).history_
    assert history[-1]["loss"] < 0.95 * history[0]["loss"]
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    assert history[-1]["val_r2"] > history[0]["val_r2"]


def test_hidden_frames_of_other_clips_are_predicted():
    clips, _ = make_tones(n_clips=60, random_state=1)
    encoder = ASTWEncoder(d_model=32, num_heads=2, num_layers=1)
    fitted = pretrainer(encoder=encoder, epochs=30).fit(clips)
    assert fitted.history_[fitted.best_epoch_ - 1]["val_r2"] > 0.1
    assert fitted.best_epoch_ == max(fitted.history_, key=lambda row: row["val_r2"])["epoch"]


def test_a_folder_gives_the_same_embeddings(fitted, tmp_path):
    folder = fitted.save_pretrained(tmp_path / "tones")
    names = {path.name for path in (tmp_path / "tones").iterdir()}
    assert len(names) == 6
    loaded = ASTWPretrainer.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.transform(CLIPS), fitted.transform(CLIPS))
    assert loaded.history_ == fitted.history_
    for name in ("mask_share", "mask_length", "encoder__d_model", "epochs", "random_state"):
        assert loaded.get_params()[name] == fitted.get_params()[name], name

    card = (tmp_path / "tones" / "README.md").read_text(encoding="utf-8")
    assert "ASTWPretrainer.from_pretrained" in card
    assert "model.transform(" in card
    assert "## Labels" not in card
    with pytest.raises(ArtifactError, match="'ASTWPretrainer', expected 'ASTWClassifier'"):
        ASTWClassifier.from_pretrained(folder)


@each_encoder
@pytest.mark.parametrize("pooling", ["mean", "attentive_stats"])
def test_a_classifier_starts_from_the_weights_of_the_encoder(encoder, pooling, tmp_path):
    pretrained = pretrainer(encoder=encoder, pooling=pooling, epochs=1).fit(CLIPS)
    folder = pretrained.save_pretrained(tmp_path / "start")
    start = {"encoder": encoder, "pooling": pooling, "epochs": 1, "init_from": folder}

    probe = ASTWClassifier(**start, init_train="none").fit(CLIPS, Y)
    for name, value in weights_of(pretrained.model_).items():
        if not name.startswith("head."):
            assert torch.equal(value, probe.model_.state_dict()[name]), name
    np.testing.assert_allclose(probe.transform(CLIPS), pretrained.transform(CLIPS), atol=ROUNDING)

    tuned = ASTWClassifier(**start).fit(CLIPS, Y)
    assert (tuned.transform(CLIPS) != pretrained.transform(CLIPS)).any()
    assert tuned.predict(CLIPS).shape == Y.shape


def test_a_regressor_and_another_pretraining_start_from_a_folder(fitted, tmp_path):
    folder = fitted.save_pretrained(tmp_path / "start")
    assert ASTWRegressor(encoder=TINY, epochs=1, init_from=folder).fit(CLIPS, Y).predict(CLIPS).shape == Y.shape
    further = pretrainer(init_from=folder, epochs=1).fit(CLIPS)
    assert further.history_[0]["val_loss"] < fitted.history_[0]["val_loss"]


def test_the_same_seed_gives_the_same_weights(fitted):
    again, other = pretrainer().fit(CLIPS), pretrainer(random_state=1).fit(CLIPS)
    for name, value in weights_of(fitted.model_).items():
        assert torch.equal(value, again.model_.state_dict()[name]), name
    assert (other.transform(CLIPS) != fitted.transform(CLIPS)).any()


def test_parameters_are_read_set_and_cloned():
    params = pretrainer(mask_share=0.4).get_params()
    assert (params["mask_share"], params["mask_length"], params["encoder__d_model"]) == (0.4, 15, 16)
    copy = clone(clone(pretrainer()).set_params(mask_length=8, encoder__d_model=32))
    assert (copy.mask_length, copy.encoder.d_model) == (8, 32)
    assert copy.fit(CLIPS).trained_.targets.mask_length == 8
    with pytest.raises(ValueError, match="'mask_share' parameter"):
        pretrainer(mask_share=1.0).fit(CLIPS)


def test_a_pipeline_learns_labels_from_embeddings():
    pipeline = make_pipeline(pretrainer(epochs=4), LogisticRegression(max_iter=1000)).fit(CLIPS, Y)
    assert pipeline.score(CLIPS, Y) > 0.8
    assert pipeline[0].get_feature_names_out().tolist() == [f"embedding_{i}" for i in range(16)]
    np.testing.assert_array_equal(pretrainer().fit_transform(CLIPS), pretrainer().fit(CLIPS).transform(CLIPS))


def test_groups_are_not_divided_and_clips_without_a_weight_are_not_used():
    fitted = pretrainer().fit(CLIPS, groups=np.arange(24) % 3)
    assert (fitted.trained_.record.n_validation, fitted.trained_.record.split) == (8, "whole groups held out")
    assert pretrainer(val_split=None).fit(CLIPS, sample_weight=Y).trained_.record.n_train == (Y > 0).sum()


def test_clips_that_cannot_be_read_follow_on_error():
    clips = [*CLIPS, "no/such/file.wav"]
    with pytest.raises(ClipError, match="Clip 24"):
        pretrainer().fit(clips)
    fitted = pretrainer(on_error="ignore").fit(clips)
    assert [clip.index for clip in fitted.failed_] == [24]
    assert np.isnan(fitted.transform(clips)).any(axis=1).tolist() == [False] * 24 + [True]


def test_precomputed_frames_are_taken():
    frames = ASTWFeaturizer().fit(CLIPS).transform(CLIPS)
    from_frames = pretrainer(features="precomputed").fit(frames).transform(frames)
    np.testing.assert_allclose(from_frames, pretrainer().fit(CLIPS).transform(CLIPS), atol=1e-4)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"side": "statistics"}, ValueError, "side='statistics'.*expected side=None"),
        ({"solver": "lbfgs"}, ValueError, "solver='lbfgs', expected side=None and solver='gradient'"),
        ({"encoder": "identity"}, ComponentError, "encoder='identity', expected an encoder with weights"),
    ],
)
def test_what_needs_labels_or_has_nothing_to_train_is_refused(params, error, message):
    with pytest.raises(error, match=message):
        pretrainer(**params).fit(CLIPS)


def test_a_saved_model_is_described_on_the_command_line(fitted, tmp_path):
    result = CliRunner().invoke(cli, ["info", fitted.save_pretrained(tmp_path / "tones")])
    assert result.exit_code == 0, result.output
    assert "ASTWPretrainer" in result.output
    assert "labels" not in result.output


def test_methods_that_need_labels_are_missing_and_say_what_to_write(fitted):
    assert not hasattr(fitted, "predict")
    with pytest.raises(AttributeError, match=r"ASTWPretrainer has no method 'export_onnx': write ASTWClassifier"):
        fitted.export_onnx("model.onnx")


@pytest.mark.parametrize(
    "change", [{"stride": 0}, {"mask_share": 1.0}, {"n_features": 2**20}, {"mask_length": "long"}, {"labels": ["a"]}]
)
def test_a_folder_with_other_numbers_is_refused(change):
    document = {**MaskedFrames(80, 2).to_json(), **change}
    with pytest.raises(ArtifactError, match=r"labels\.json"):
        MaskedFrames.from_json(document)
