"""Weights of a checkpoint in a model: frozen as a front end, fine-tuned, saved with the model, and used again."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from helpers import torch_seed
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.augment import Augment
from skastw.datasets import make_tones
from skastw.encoders import CNN10Encoder, IdentityEncoder, RNNEncoder
from skastw.errors import ArtifactError, ComponentError, WeightsError
from skastw.features import Frozen
from skastw.network.model import trained_state
from skastw.storage import hub
from skastw.training.run import Run

CLIPS, Y = make_tones(n_clips=12, n_classes=2, random_state=0)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def weights():
    with torch_seed(5):
        module = CNN10Encoder(width=4).build(80, 100)
        for weight in module.parameters():
            weight.data += 0.1 * torch.randn(weight.shape)
    return module.state_dict()


@pytest.fixture
def checkpoint(weights, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture
def repository(weights, tmp_path, monkeypatch):
    """Return the name of a repository of which a commit is in the cache of the Hub."""
    folder = tmp_path / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A net\n")
    fetch = hub.fetch
    monkeypatch.setattr(
        hub, "fetch", lambda name, *args, **kwargs: folder if name == "user/net" else fetch(name, *args, **kwargs)
    )
    return "user/net"


def network(weights, **params):
    return CNN10Encoder(width=4, weights=weights, rounding="ceil", dense="frame", **params)


def probe(encoder, **params):
    defaults = {"epochs": 2, "batch_size": 4, "augment": None}
    return ASTWClassifier(encoder=encoder, **{**defaults, **params})


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# ------------------------------------------------------------------ frozen


def test_a_frozen_encoder_becomes_the_front_end(checkpoint, weights):
    clf = probe(network(checkpoint)).fit(CLIPS, Y)
    assert isinstance(clf.features_, Frozen)
    assert isinstance(clf.trained_.components.encoder, IdentityEncoder)
    assert_same_state(clf.model_.features.encoder.state_dict(), weights)
    assert not any(weight.requires_grad for weight in clf.model_.features.parameters())

    explicit = probe("identity", features=Frozen(encoder=network(checkpoint), features="log_mel")).fit(CLIPS, Y)
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), explicit.predict_proba(CLIPS))


def test_the_encoder_runs_once_for_each_clip(checkpoint, monkeypatch):
    from skastw.encoders import panns

    calls = []
    forward = panns._PANNModule.forward
    monkeypatch.setattr(panns._PANNModule, "forward", lambda *args: calls.append(1) or forward(*args))
    probe(network(checkpoint), epochs=5).fit(CLIPS, Y)
    assert len(calls) == len(CLIPS)


def test_a_cache_folder_keeps_frozen_outputs(checkpoint, tmp_path, monkeypatch):
    from skastw.encoders import panns

    before = probe(network(checkpoint), cache_dir=tmp_path / "cache").fit(CLIPS, Y)
    monkeypatch.setattr(panns._PANNModule, "forward", lambda *args: pytest.fail("the encoder was run again"))
    again = probe(network(checkpoint), cache_dir=tmp_path / "cache").fit(CLIPS, Y)
    np.testing.assert_array_equal(again.predict_proba(CLIPS), before.predict_proba(CLIPS))


def test_other_weights_have_other_entries_in_the_cache(checkpoint, weights, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({name: value + 0.01 if value.is_floating_point() else value for name, value in weights.items()}, other)
    first, second = (
        ASTWFeaturizer(features=Frozen(encoder=network(path), features="log_mel"), cache_dir=tmp_path / "cache")
        for path in (checkpoint, other)
    )
    assert not np.allclose(first.fit_transform(CLIPS)[0], second.fit_transform(CLIPS)[0])


def test_random_frozen_weights_are_the_same_for_training_and_predictions():
    clf = ASTWClassifier(
        features=Frozen(encoder=RNNEncoder(hidden=8), features="log_mel"),
        encoder="identity",
        epochs=1,
        normalization="none",
    ).fit(CLIPS, Y)
    [frames] = clf.model_.features.extract([torch.from_numpy(CLIPS[0])])
    embedding = clf.transform(CLIPS[:1])[0]
    np.testing.assert_allclose(frames.mean(dim=0).numpy(), embedding, atol=1e-6)


def test_long_clips_are_divided_before_the_encoder(checkpoint):
    module = Frozen(encoder=network(checkpoint), features="log_mel", chunk_length=0.32).build(16000)
    long = torch.from_numpy(np.tile(CLIPS[0], 5))
    [frames] = module.extract([long])
    padded, lengths = module(torch.nn.functional.pad(long, (0, 999))[None], torch.tensor([len(long)]))
    assert lengths.tolist() == [len(frames)]
    torch.testing.assert_close(padded[0, : len(frames)], frames)


class Quieter(Augment):
    stage = "waveform"

    def apply(self, batch, generator):
        return batch.with_frames(0.5 * batch.inputs)


def test_a_frozen_encoder_takes_augmented_waveforms(checkpoint):
    clf = probe(network(checkpoint), augment=[Quieter()]).fit(CLIPS, Y)
    assert clf.trained_.components.in_step
    assert np.isfinite(clf.predict_proba(CLIPS)).all()


# ------------------------------------------------------------------ fine-tuning


def test_only_the_top_layers_are_trained(checkpoint, weights):
    clf = probe(network(checkpoint, train="top-1"), pretrained_lr=0.01).fit(CLIPS, Y)
    state = clf.model_.encoder.state_dict()
    changed = {name.split(".")[0] for name, value in state.items() if not torch.equal(value, weights[name])}
    assert changed == {"dense"}


def test_rates_fall_with_the_depth(checkpoint):
    runs = []
    probe(network(checkpoint, train="all", layer_decay=0.5), pretrained_lr=0.02).fit(CLIPS, Y)
    initialise = Run.__init__

    def remember(self, *args, **kwargs):
        initialise(self, *args, **kwargs)
        runs.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "__init__", remember)
        clf = probe(network(checkpoint, train="all", layer_decay=0.5), pretrained_lr=0.02).fit(CLIPS, Y)
    [run] = runs
    factors = {group["factor"] for group in run.optimizers["pretrained_lr"].param_groups}
    n_layers = len(clf.model_.encoder.parts_in_order())
    assert factors == {0.5**depth for depth in range(n_layers)}
    assert "pretrained_lr" in clf.history_[0]

    trained = {
        id(weight)
        for name in run.optimizers
        for group in run.optimizers[name].param_groups
        for weight in group["params"]
    }
    assert trained == {id(weight) for weight in clf.model_.parameters() if weight.requires_grad}


def test_pretrained_weights_may_be_trained_like_all_others(checkpoint):
    clf = probe(network(checkpoint, train="all"), pretrained_lr=None).fit(CLIPS, Y)
    assert "pretrained_lr" not in clf.history_[0]


def test_training_from_scratch_has_no_rate_for_pretrained_weights():
    assert "pretrained_lr" not in probe(RNNEncoder(hidden=8)).fit(CLIPS, Y).history_[0]


@pytest.mark.parametrize("train", ["top-0", "top-", "some", "top-1000", 3])
def test_layers_to_train_are_named(checkpoint, train):
    with pytest.raises(ComponentError, match="'train' parameter"):
        probe(network(checkpoint, train=train)).fit(CLIPS, Y)


def test_states_of_training_do_not_repeat_weights_that_never_change(checkpoint, tmp_path):
    clf = probe(network(checkpoint, train="top-1"), checkpoint_dir=tmp_path / "runs", ema_decay=0.9, epochs=3)
    clf.fit(CLIPS, Y)
    names = trained_state(clf.model_)
    assert "encoder.dense.weight" in names
    assert "encoder.blocks.0.first.conv.weight" not in names
    again = clone(clf).fit(CLIPS, Y)  # from its checkpoint, which has the state after the last epoch
    assert_same_state(again.model_.state_dict(), clf.model_.state_dict())


class StopInSecondEpoch(Augment):
    """An augmentation of frames that ends the process in the second epoch."""

    def prepare(self, extract, sample_rate):
        calls = []

        def transform(batch, generator):
            calls.append(1)
            if len(calls) == 4:  # three batches in an epoch
                raise SystemExit
            return batch

        return transform

    def apply(self, batch, generator):
        raise AssertionError


def test_what_was_reached_is_kept_with_frozen_weights(checkpoint):
    clf = probe(network(checkpoint), augment=[StopInSecondEpoch()], epochs=3, val_split=None)
    with pytest.raises(SystemExit) as stopped:
        clf.fit(CLIPS, Y)
    assert stopped.value.trained.record.n_epochs == 1
    clf.trained_ = stopped.value.trained
    assert np.isfinite(clf.predict_proba(CLIPS)).all()


# ------------------------------------------------------------------ the folder


def test_a_saved_model_needs_no_checkpoint(checkpoint, tmp_path):
    clf = probe(network(checkpoint)).fit(CLIPS, Y)
    folder = clf.save_pretrained(tmp_path / "model")
    checkpoint.unlink()
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()


@pytest.mark.parametrize("train", ["none", "top-2"])
def test_a_refit_without_the_checkpoint_starts_from_the_folder_and_says_so(checkpoint, tmp_path, train, weights):
    folder = probe(network(checkpoint, train=train)).fit(CLIPS, Y).save_pretrained(tmp_path / "model")
    checkpoint.unlink()
    loaded = ASTWClassifier.from_pretrained(folder)
    kept = loaded.model_.state_dict()
    with pytest.warns(UserWarning, match=r"net.safetensors.*starts from the weights of the fitted model"):
        loaded.set_params(epochs=1, pretrained_lr=0.0).fit(CLIPS, Y)
    state = loaded.model_.state_dict()
    for name in kept:
        if "features" in name or "encoder" in name:
            assert torch.equal(state[name], kept[name]), name


def test_a_new_estimator_without_the_checkpoint_says_what_is_missing(checkpoint, tmp_path):
    folder = probe(network(checkpoint)).fit(CLIPS, Y).save_pretrained(tmp_path / "model")
    checkpoint.unlink()
    with pytest.raises(WeightsError, match=r"net\.safetensors"):
        clone(ASTWClassifier.from_pretrained(folder)).fit(CLIPS, Y)


def test_half_the_size_with_float16(checkpoint, tmp_path):
    clf = probe(network(checkpoint)).fit(CLIPS, Y)
    sizes = {}
    for dtype in (None, "float16"):
        folder = clf.save_pretrained(tmp_path / str(dtype), weights_dtype=dtype)
        sizes[dtype] = (tmp_path / str(dtype) / "model.safetensors").stat().st_size
    assert sizes["float16"] < 0.6 * sizes[None]
    loaded = ASTWClassifier.from_pretrained(folder)
    assert {value.dtype for value in loaded.model_.parameters()} == {torch.float32}
    np.testing.assert_allclose(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS), atol=5e-3)

    again = loaded.save_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(
        ASTWClassifier.from_pretrained(again).predict_proba(CLIPS), loaded.predict_proba(CLIPS)
    )


def test_weights_beyond_float16_are_not_rounded_to_infinity(tmp_path):
    clf = probe(RNNEncoder(hidden=4), epochs=1).fit(CLIPS, Y)
    with torch.no_grad():
        clf.model_.head.weight[0, 0] = 1e6
    with pytest.raises(ArtifactError, match=r"'head\.weight'.*float16"):
        clf.save_pretrained(tmp_path / "model", weights_dtype="float16")


def test_frozen_weights_may_stay_in_their_repository(repository, tmp_path):
    clf = probe(network(repository)).fit(CLIPS, Y)
    folder = tmp_path / "model"
    clf.save_pretrained(folder, frozen="reference")
    assert (folder / "model.safetensors").stat().st_size < 20_000
    config = json.loads((folder / "config.json").read_text())
    assert config["sources"][0]["commit"] == COMMIT
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))


def test_changed_weights_of_a_repository_are_refused(repository, tmp_path, weights):
    clf = probe(network(repository)).fit(CLIPS, Y)
    clf.save_pretrained(tmp_path / "model", frozen="reference")
    changed = {name: value + 1 for name, value in weights.items()}
    save_file(changed, tmp_path / "snapshots" / COMMIT / "model.safetensors")
    with pytest.raises(WeightsError, match=r"'user/net' cannot be read: .*SHA-256"):
        ASTWClassifier.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("make", [lambda path: network(path), lambda path: RNNEncoder(hidden=4)], ids=["file", "none"])
def test_only_weights_of_a_repository_can_be_referred_to(checkpoint, tmp_path, make):
    clf = probe(make(checkpoint), epochs=1).fit(CLIPS, Y)
    with pytest.raises(ArtifactError, match=r"frozen='reference'.*frozen='stored'"):
        clf.save_pretrained(tmp_path / "model", frozen="reference")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("params", [{"weights_dtype": "int8"}, {"frozen": "never"}], ids=str)
def test_other_ways_to_store_weights_are_refused(checkpoint, tmp_path, params):
    clf = probe(RNNEncoder(hidden=4), epochs=1).fit(CLIPS, Y)
    with pytest.raises(ValueError, match=next(iter(params))):
        clf.save_pretrained(tmp_path / "model", **params)


def test_the_card_names_the_weights_and_their_licence(repository, tmp_path):
    clf = probe(network(repository)).fit(CLIPS, Y)
    clf.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    for text in ("base_model", "user/net", COMMIT, "license: cc-by-nc-4.0", "with pretrained weights"):
        assert text in card
    assert "trained-from-scratch" not in card


def test_a_licence_against_commercial_use_is_said_before_a_push(repository, monkeypatch):
    monkeypatch.setattr(hub, "push", lambda *args, **kwargs: "https://hub.example/commit")
    clf = probe(network(repository)).fit(CLIPS, Y)
    with pytest.warns(UserWarning, match="'cc-by-nc-4.0', which forbids commercial use"):
        clf.push_to_hub("user/tones")


# ------------------------------------------------------------------ init_from


@pytest.fixture(scope="module")
def fitted_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "model"
    clf = probe(CNN10Encoder(width=4), pooling="attentive_stats").fit(CLIPS, Y)
    return clf.save_pretrained(folder), clf.model_.state_dict()


@pytest.mark.parametrize(
    ("train", "expected"),
    [("none", {"head"}), ("top-1", {"head", "pooling", "encoder.dense"}), ("all", None)],
)
def test_init_from_trains_the_head_the_top_or_all(fitted_folder, train, expected):
    folder, before = fitted_folder
    clf = probe(CNN10Encoder(width=4), pooling="attentive_stats", init_from=folder, init_train=train).fit(CLIPS, Y)
    state = clf.model_.state_dict()
    changed = {name for name in before if not torch.equal(state[name], before[name])}
    parts = {".".join(name.split(".")[:2]) if name.startswith("encoder") else name.split(".")[0] for name in changed}
    if expected is None:
        assert {"encoder.input_norm", "encoder.blocks", "head"} <= parts
    else:
        assert parts == expected


# ------------------------------------------------------------------ embeddings without training


def test_the_featurizer_gives_pooled_frames(checkpoint):
    features = Frozen(encoder=network(checkpoint), features="log_mel")
    frames = ASTWFeaturizer(features=features).fit_transform(CLIPS)
    for pooling, expected in {
        "mean": [item.mean(axis=0) for item in frames],
        "max": [item.max(axis=0) for item in frames],
        "first": [item[0] for item in frames],
        "last": [item[-1] for item in frames],
    }.items():
        featurizer = ASTWFeaturizer(features=features, output="embedding", pooling=pooling)
        np.testing.assert_allclose(featurizer.fit_transform(CLIPS), expected, atol=1e-6)
    assert list(featurizer.get_feature_names_out()[:2]) == ["embedding_0", "embedding_1"]


def test_a_pooling_with_weights_is_refused(checkpoint):
    featurizer = ASTWFeaturizer(output="embedding", pooling="attentive_stats").fit(CLIPS)
    with pytest.raises(ComponentError, match=r"attentive_stats.*does not train"):
        featurizer.transform(CLIPS)


def test_a_pipeline_is_saved_with_the_weights_of_its_featurizer(checkpoint, tmp_path):
    featurizer = ASTWFeaturizer(features=Frozen(encoder=network(checkpoint), features="log_mel"))
    pipeline = make_pipeline(featurizer, probe("identity", features="precomputed", epochs=1)).fit(CLIPS, Y)
    folder = pipeline[-1].save_pretrained(tmp_path / "model", featurizer=pipeline[0])
    shutil.rmtree(checkpoint.parent / "cache", ignore_errors=True)
    checkpoint.unlink()
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_allclose(loaded.predict_proba(CLIPS), pipeline.predict_proba(CLIPS), atol=1e-6)


# ------------------------------------------------------------------ ONNX


def test_a_frozen_encoder_is_exported_with_its_weights(checkpoint, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    clf = probe(network(checkpoint), epochs=1).fit(CLIPS, Y)
    session = onnxruntime.InferenceSession(clf.export_onnx(tmp_path / "net.onnx"))
    probabilities, _ = session.run(None, {"waveform": CLIPS[0][None]})
    np.testing.assert_allclose(probabilities, clf.predict_proba(CLIPS[:1]), atol=1e-4)


# ------------------------------------------------------------------ folders from untrusted sources


def test_loading_reads_no_checkpoint(checkpoint, tmp_path, monkeypatch):
    """A config that names a checkpoint without its settings must not make loading read a file or use the network."""
    folder = tmp_path / "model"
    clf = probe(network(checkpoint)).fit(CLIPS, Y)
    clf.trained_.components.features.encoder.set_params(source=None, revision="main", weights="user/other")
    clf.save_pretrained(folder)
    monkeypatch.setattr("skastw.encoders._pretrained.open_checkpoint", lambda *args, **kwargs: pytest.fail("was read"))
    np.testing.assert_array_equal(ASTWClassifier.from_pretrained(folder).predict(CLIPS), clf.predict(CLIPS))


# ------------------------------------------------------------------ one fit after another


def test_each_of_several_networks_starts_from_the_checkpoint(checkpoint, weights):
    clf = probe(network(checkpoint, train="all"), epochs=1, pretrained_lr=0.0).fit(CLIPS, Y)
    clf.set_params(n_models=2).fit(CLIPS, Y)  # the model of the first fit has one network
    for encoder in clf.model_.encoder:
        torch.testing.assert_close(encoder.blocks[0].first.conv.weight, weights["blocks.0.first.conv.weight"])


def test_an_exit_keeps_the_best_weights_of_a_probe(checkpoint):
    calls = []

    class Exit(Augment):
        def apply(self, batch, generator):
            calls.append(1)
            if len(calls) > 5:
                raise SystemExit
            return batch

    with pytest.raises(SystemExit) as stopped:
        probe(network(checkpoint), augment=[Exit()], epochs=9).fit(CLIPS, Y)
    assert stopped.value.trained.record.n_epochs >= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_that_are_fetched_get_the_number_format_of_the_network(repository, tmp_path, weights, dtype):
    halves = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halves, tmp_path / "snapshots" / COMMIT / "model.safetensors")
    clf = probe(network(repository), epochs=1).fit(CLIPS, Y)
    clf.save_pretrained(tmp_path / "model", frozen="reference")
    loaded = ASTWClassifier.from_pretrained(tmp_path / "model")
    assert {weight.dtype for weight in loaded.model_.parameters()} == {torch.float32}
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))


def test_training_further_keeps_to_the_layers_of_init_train(fitted_folder):
    folder, before = fitted_folder
    clf = probe(CNN10Encoder(width=4), pooling="attentive_stats", init_from=folder, init_train="none")
    for _ in range(2):
        clf.partial_fit(CLIPS, Y, classes=[0, 1])
    clf.set_params(warm_start=True).fit(CLIPS, Y)
    state = clf.model_.state_dict()
    assert {name for name in before if not torch.equal(state[name], before[name])} == {"head.weight", "head.bias"}


def test_runs_that_train_other_layers_have_other_checkpoints(fitted_folder, tmp_path):
    folder, _ = fitted_folder
    for train in ("none", "all"):
        params = {"init_from": folder, "init_train": train, "checkpoint_dir": tmp_path / "runs"}
        probe(CNN10Encoder(width=4), pooling="attentive_stats", epochs=1, **params).fit(CLIPS, Y)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_momenta_belong_to_their_optimiser(checkpoint):
    clf = probe(network(checkpoint, train="top-1"), muon_lr=None)
    clf.partial_fit(CLIPS, Y, classes=[0, 1])
    clf.set_params(muon_lr=0.01, pretrained_lr=None).partial_fit(CLIPS, Y)
    assert np.isfinite(clf.predict_proba(CLIPS)).all()


def test_a_start_from_another_sample_rate_has_the_front_end_of_the_new_one(tmp_path):
    folder = probe(RNNEncoder(hidden=4), epochs=1).fit(CLIPS, Y).save_pretrained(tmp_path / "start")
    clf = probe(RNNEncoder(hidden=4), epochs=1, init_from=folder, sample_rate=8000).fit(CLIPS, Y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))


def test_a_warm_start_uses_the_front_end_of_the_parameters(tmp_path):
    clf = probe(RNNEncoder(hidden=4), epochs=1, warm_start=True).fit(CLIPS, Y)
    clf.set_params(features="pcen").fit(CLIPS, Y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))
