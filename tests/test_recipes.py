"""Recipes: those of the package make estimators that survive saving, those of users are read and never executed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.base import clone

from helpers import TEMPLATES
from skastw import ASTWClassifier, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ComponentError, RecipeError
from skastw.network.components import resolve_components
from skastw.recipes import Recipe, load_recipe, plain_params, recipe_names, resolve_params

#: Parameters that make one step of training; what is left is the recipe's.
BRIEF = {"epochs": 1, "min_steps": 0, "device": "cpu"}


def write(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def params_of(estimator):
    """Return the parameters in words, the machine's left out."""
    return {k: repr(v) for k, v in estimator.get_params(deep=True).items() if k not in ("device", "verbose", "n_jobs")}


# ------------------------------------------------------------------ those of the package


def test_there_are_recipes():
    assert {"astw", "environmental", "small", "tiny"} <= set(recipe_names())
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_packaged_recipe_is_described_and_makes_valid_estimators(name, from_recipe):
    recipe = load_recipe(name)
    assert isinstance(recipe, Recipe)
    assert recipe.name == name
    assert re.fullmatch(r"[A-Z].{20,150}\.", recipe.description), recipe.description
    for param, value in recipe.params.items():
        assert repr(getattr(ASTWClassifier.from_recipe(name), param)) == repr(value)
    estimator = from_recipe(name)
    estimator._validate_params()
    resolve_components(estimator)
    assert params_of(clone(estimator)) == params_of(estimator)


@pytest.mark.parametrize("name", recipe_names())
def test_the_parameters_of_a_recipe_survive_saving(name, from_recipe, tmp_path):
    clips, y = make_tones(n_clips=12, n_classes=2, duration=(0.1, 0.2), random_state=0)
    estimator = from_recipe(name).set_params(**BRIEF)
    if name == "astw":
        estimator.set_params(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1))
    estimator.fit(clips, y)
    again = ASTWClassifier.from_pretrained(estimator.save_pretrained(tmp_path / "model"), device="cpu")
    for param, value in estimator.get_params(deep=False).items():
        loaded = getattr(again, param)
        if name in TEMPLATES and param in ("features", "encoder"):
            continue  # the fitted ones have the settings of the checkpoint
        if param in ("features", "normalization", "encoder", "pooling"):
            resolved = getattr(resolve_components(estimator), param)
            assert (type(loaded), loaded.get_params()) == (type(resolved), resolved.get_params())
        elif param == "augment":
            resolved = resolve_components(estimator).augment
            assert [repr(item) for item in loaded] == [repr(item) for item in resolved]
        elif param not in ("device", "verbose", "n_jobs"):
            assert loaded == value, param
    np.testing.assert_array_equal(again.predict_proba(clips), estimator.predict_proba(clips))


def test_the_announced_recipe_names_each_number_of_the_announcement():
    clf = ASTWClassifier.from_recipe("astw")
    features = clf.features.get_params()
    assert (clf.sample_rate, clf.chunk_length, clf.normalization.name, clf.pooling.name) == (
        16000,
        30.0,
        "none",
        "mean",
    )
    assert [features[name] for name in ("n_mels", "n_fft", "hop_length", "win_length")] == [80, 400, 160, None]
    assert (features["fmin"], features["fmax"]) == (0.0, None)
    assert (
        clf.encoder.get_params().items()
        >= {
            "d_model": 384,
            "num_heads": 6,
            "num_layers": 8,
            "ff_mult": 4,
            "dropout": 0.1,
        }.items()
    )
    [masks] = clf.augment
    assert (masks.freq_masks, masks.freq_width, masks.time_masks, masks.time_width) == (2, 8, 2, 20)
    assert (clf.muon_lr, clf.adam_lr, clf.weight_decay, clf.warmup_ratio) == (0.01, 3e-4, 0.01, 0.1)
    assert (clf.label_smoothing, clf.val_split, clf.patience, clf.keep) == (0.1, 0.2, 30, "best")
    assert (clf.ema_decay, clf.teacher, clf.refit, clf.random_state, clf.n_models) == (None, None, None, 42, 1)
    assert (clf.side, clf.solver) == (None, "gradient")


def test_the_defaults_keep_the_numbers_of_the_announcement():
    announced, default = ASTWClassifier.from_recipe("astw"), ASTWClassifier()
    ours, theirs = params_of(default), params_of(announced)
    changed = {name for name in ours if ours[name] != theirs[name] and name not in ("features", "encoder", "pooling")}
    encoder = {"encoder__drop_frames", "encoder__drop_path"}
    assert changed == {"augment", "ema_decay", "epochs", "normalization", "refit", "teacher", *encoder}
    for kind in ("features", "encoder", "pooling"):
        ours, theirs = (getattr(resolve_components(clf), kind).get_params() for clf in (default, announced))
        assert {name for name in ours if ours[name] != theirs[name]} <= {"drop_path", "drop_frames"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_takes_weights_in_any_way_and_says_that_it_needs_them(name, from_recipe, wav2vec2_folder):
    clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    with pytest.raises(ComponentError, match="expected weights="):
        ASTWClassifier.from_recipe(name).fit(clips, y)
    assert load_recipe(name, weights="user/net").params["encoder"].weights == "user/net"
    changed = ASTWClassifier.from_recipe(name).set_params(encoder__weights=str(wav2vec2_folder))
    assert params_of(changed) == params_of(from_recipe(name))


def test_a_frozen_network_is_standardised_and_a_finetuned_one_is_trained_at_its_top(from_recipe):
    clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    frozen, tuned = (from_recipe(name).set_params(**BRIEF).fit(clips, y) for name in ("frozen", "finetune"))
    assert (frozen.features_.name, frozen.trained_.components.encoder.name) == ("frozen", "identity")
    trained = {name for name, weight in frozen.model_.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"head"}

    assert (tuned.trained_.components.encoder.train, tuned.batch_size) == ("top-4", 8)
    assert set(tuned.history_[0]) >= {"adam_lr", "pretrained_lr"}
    assert frozen.augment_ == tuned.augment_ == []


def test_recipes_of_other_networks_take_no_weights():
    for name in ("tiny", "astw"):
        with pytest.raises(RecipeError, match=f"weights='user/net' with recipe='{name}', .* such as 'frozen'"):
            load_recipe(name, weights="user/net")


def test_a_recipe_makes_a_new_object_each_time():
    first, second = ASTWClassifier.from_recipe("small"), ASTWClassifier.from_recipe("small")
    first.set_params(encoder__width=8)
    assert second.encoder.width == ASTWClassifier.from_recipe("small").encoder.width != 8


# ------------------------------------------------------------------ one's own

MINE = """\
description: For owls.
params:
  features:
    log_mel: {n_mels: 40}
  normalization: per_clip
  augment:
    - gain: {max_gain: 3}
    - spec_augment
    - noise:
  encoder:
    astw: {d_model: 16, num_heads: 2, num_layers: 1}
  pooling: attentive_stats
  epochs: 2
  val_split: null
"""


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
@pytest.mark.parametrize("kind", [str, os.fspath, lambda path: path])
def test_a_file_of_ones_own_works(tmp_path, suffix, kind):
    path = write(tmp_path, MINE, f"owls.{suffix}")
    recipe = load_recipe(kind(path))
    assert (recipe.name, recipe.description) == ("owls", "For owls.")
    clf = ASTWClassifier.from_recipe(kind(path))
    assert (clf.features.n_mels, clf.normalization.name, clf.pooling.name) == (40, "per_clip", "attentive_stats")
    assert [item.name for item in clf.augment] == ["gain", "spec_augment", "noise"]
    assert (clf.augment[0].max_gain, clf.encoder.d_model, clf.epochs, clf.val_split) == (3, 16, 2, None)
    clips, y = make_tones(n_clips=8, n_classes=2, duration=(0.1, 0.2), random_state=0)
    assert clf.set_params(device="cpu").fit(clips, y).predict(clips).shape == (8,)


NESTED = """\
params:
  features:
    frozen:
      encoder: {cnn10: {width: 4}}
      features: log_mel
  augment:
    - one_of:
        augmentations:
          - sequence: {augmentations: [waveform_reverb, {waveform_noise: {min_snr: 0}}]}
          - waveform_telephone
        weights: [1, 3]
"""


def test_components_inside_components_are_written_in_the_same_way(tmp_path):
    params = load_recipe(write(tmp_path, NESTED)).params
    assert params["features"].encoder.width == 4
    [choice] = params["augment"]
    sequence, telephone = choice.augmentations
    assert [item.name for item in sequence.augmentations] == ["waveform_reverb", "waveform_noise"]
    assert (sequence.augmentations[1].min_snr, telephone.name, choice.weights) == (0, "waveform_telephone", [1, 3])

    again = resolve_params(plain_params(params), "again")
    assert repr(again["augment"]) == repr(params["augment"])
    assert repr(again["features"]) == repr(params["features"])


@pytest.mark.parametrize(
    ("augmentations", "message"),
    [
        ("gain", "one_of.augmentations: 'gain', expected a list"),
        ("[gain, 3]", r"one_of.augmentations\[1\]: 3, expected a name"),
        ("[{gain: {}, noise: {}}]", r"one_of.augmentations\[0\]"),
        ("[no_such]", "no_such"),
        ("[{gain: {max_gain: -1}}]", "max_gain"),
        ("[gain, waveform_gain]", "one stage"),
    ],
)
def test_a_wrong_component_inside_another_is_named(tmp_path, augmentations, message):
    path = write(tmp_path, f"params: {{augment: [{{one_of: {{augmentations: {augmentations}}}}}]}}")
    with pytest.raises((RecipeError, ComponentError), match=message):
        load_recipe(path)


def test_a_description_may_be_missing_and_augmentation_switched_off(tmp_path):
    recipe = load_recipe(write(tmp_path, "params: {augment: null, epochs: 3}"))
    assert recipe == Recipe("mine", "", {"augment": None, "epochs": 3})
    assert load_recipe(write(tmp_path, "params: {augment: []}")).params == {"augment": []}


def test_a_recipe_serves_every_estimator_that_has_its_parameters(tmp_path):
    assert ASTWRegressor.from_recipe("small").encoder.name == "resnet"
    path = write(tmp_path, "params: {label_smoothing: 0.2}")
    assert ASTWClassifier.from_recipe(path).label_smoothing == 0.2
    with pytest.raises(RecipeError, match=r"label_smoothing.*ASTWRegressor"):
        ASTWRegressor.from_recipe(path)


def test_a_file_is_not_mistaken_for_a_packaged_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "params: {epochs: 7}", "small.yaml")
    assert load_recipe("small.yaml").params == {"epochs": 7}
    assert "encoder" in load_recipe("small").params


# ------------------------------------------------------------------ what is not a recipe

TAGS = [
    "!!python/object/apply:os.system ['touch CANARY']",
    "!!python/object/new:subprocess.Popen [['touch', 'CANARY']]",
    "!!python/object:skastw.augment.gain.Gain {}",
    "!!python/name:os.system",
    "!!python/module:this",
    "!!python/tuple [1, 2]",
    "!custom {a: 1}",
]
ALIASES = "\n".join(
    ["description: laughs", "a0: &a0 [ha, ha]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 60)]
    + ["params: {encoder: *a59, epochs: *a59}"]
)
NOT_RECIPES = {
    "empty": "",
    "text": "just words",
    "number": "3",
    "list": "- params: {}",
    "no params": "description: nothing else",
    "params are a list": "params: [1, 2]",
    "params are nothing": "params:",
    "another key": "params: {}\nversion: 2",
    "a parameter named by a number": "params: {1: 2}",
    "two documents": "params: {}\n---\nparams: {}",
    "unclosed": "params: {epochs: [",
    "tabs": "params:\n\tepochs: 3",
    "unhashable key": "params: {{a: 1}: 2}",
    "control characters": "params: {a: '\x00\x01'}",
    "no date": "params: {epochs: 2026-99-99}",
    "no integer": "params: {epochs: !!int ten}",
    "no float": "params: {muon_lr: !!float ten}",
    "no timestamp": "params: {epochs: !!timestamp soon}",
    "too many digits": f"params: {{epochs: {'9' * 9000}}}",
    "deep": "params: " + "[" * 30_000,
    "deep and closed": "params: {epochs: " + "[" * 20_000 + "]" * 20_000 + "}",
    "deep in lines": "params:\n" + "\n".join(" " * i + "a:" for i in range(1, 340)),
    "deep in one line": "params: " + "- " * 20_000,
    "deep in keys": "params:\n  " + "? " * 20_000,
    "aliases": ALIASES,
    "an alias to itself": "params: &a {encoder: *a}",
    "merged": "params: {<<: &a {epochs: 3}, encoder: {astw: *a}}",
    "augment is a name": "params: {augment: gain}",
    "augment is a mapping": "params: {augment: {gain: {}}}",
    "two names": "params: {encoder: {astw: {}, resnet: {}}}",
    "no name": "params: {encoder: {}}",
    "encoder is nothing": "params: {encoder: null}",
    "encoder is a number": "params: {encoder: 3}",
    "augment of nothing": "params: {augment: [null]}",
    "unknown encoder": "params: {encoder: no_such}",
    "unknown augmentation": "params: {augment: [no_such]}",
    "class path": "params: {encoder: 'os.system'}",
    "encoder named by a number": "params: {encoder: {3: {}}}",
    "unknown parameter of a component": "params: {encoder: {astw: {no_such: 1}}}",
    "parameter of a component named by a number": "params: {encoder: {astw: {1: 1}}}",
    "parameters are a list": "params: {encoder: {astw: [1]}}",
    "unknown parameter": "params: {no_such: 1}",
    "parameter of a component in the wrong place": "params: {encoder__d_model: 16}",
    **{tag.split()[0]: f"params: {{epochs: {tag}}}" for tag in TAGS},
    **{f"encoder {tag.split()[0]}": f"params: {{encoder: {{astw: {{d_model: {tag}}}}}}}" for tag in TAGS},
}


@pytest.mark.parametrize("text", NOT_RECIPES.values(), ids=NOT_RECIPES)
def test_what_is_not_a_recipe_is_an_error_of_one_short_line_and_executes_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert len(text) < 65536
    path = write(tmp_path, text)
    with pytest.raises((RecipeError, ComponentError)) as raised:
        ASTWClassifier.from_recipe(path)
    assert len(str(raised.value)) < 2000
    assert os.listdir(tmp_path) == ["mine.yaml"]
    assert "this" not in sys.modules


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path, "params: {}\n" + "# no\n" * 2_000_000)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(RecipeError, match="10000011 bytes, expected at most 65536"):
        load_recipe(path)


def test_what_is_no_file_of_text_is_refused(tmp_path):
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(np.random.default_rng(0).bytes(5000))
    other = write(tmp_path, "params: {}", "recipe.json")
    for path, expected in [
        (folder, "expected one of"),
        (binary, "cannot be read as text"),
        (other, "path of a .yaml file"),
        (tmp_path / "missing.yaml", f"does not exist (looked in {str(tmp_path)!r})"),
        ("no_such", "got recipe='no_such', expected one of 'astw'"),
        ("", "expected one of"),
        ("/dev/zero", "expected one of"),
        ("a\0b.yaml", "does not exist"),
    ]:
        with pytest.raises(RecipeError, match=f"(?i){re.escape(expected)}"):
            load_recipe(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "pipe.yaml")


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"epochs": "ten"}, ["epochs", "'ten'"]),
        ({"epochs": 0}, ["epochs", "0"]),
        ({"epochs": [3]}, ["epochs", "[3]"]),
        ({"muon_lr": "fast"}, ["muon_lr", "'fast'"]),
        ({"keep": "first"}, ["keep", "'first'"]),
        ({"val_split": 2.0}, ["val_split", "2.0"]),
        ({"encoder": {"astw": {"d_model": "wide"}}}, ["d_model", "'wide'"]),
        ({"encoder": {"resnet": {"dropout": 2.0}}}, ["dropout", "2.0"]),
        ({"features": {"log_mel": {"n_mels": [80]}}}, ["n_mels", "[80]"]),
        ({"augment": [{"gain": {"max_gain": None}}]}, ["max_gain", "None"]),
        ({"normalization": {"per_clip": {"per_bin": "maybe"}}}, ["per_bin", "'maybe'"]),
        ({"pooling": {"attentive_stats": {"hidden": -1}}}, ["hidden", "-1"]),
    ],
)
def test_a_parameter_of_a_wrong_type_or_range_is_named(tmp_path, params, named):
    path = write(tmp_path, yaml.safe_dump({"params": params}))
    with pytest.raises((RecipeError, ComponentError)) as raised:
        ASTWClassifier.from_recipe(path)
    assert all(word in str(raised.value) for word in named), raised.value


def test_names_that_do_not_exist_are_answered_with_those_that_do(tmp_path):
    for text, expected in [
        ("params: {encoder: no_such}", "'astw'"),
        ("params: {augment: [no_such]}", "'spec_augment'"),
        ("params: {encoder: {astw: {no_such: 1}}}", "'d_model'"),
        ("params: {no_such: 1}", "'epochs'"),
    ]:
        with pytest.raises((RecipeError, ComponentError), match=f"no_such.*{expected}"):
            ASTWClassifier.from_recipe(write(tmp_path, text))


def test_yaml_is_imported_only_when_a_recipe_is_read():
    code = "import sys, skastw, skastw.recipes; skastw.recipes.recipe_names(); assert 'yaml' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("params: {}\ndescripton: owls", "has the unknown name 'descripton'; did you mean 'description'?"),
        ("description: owls", "has no 'params', expected a mapping with 'params', 'description'."),
        ("params: [1]", "has params: [1], expected a mapping of names to values."),
        ("params: {1: 2}", "has params: {1: 2}, expected a mapping of names to values."),
        ("params: {}\ndescription: 3", "has description: 3, expected text."),
        ("just words", "holds 'just words', expected a mapping with 'params', 'description'."),
        ("params: {encoder: 3}", "has encoder: 3, expected a name, or one name with its parameters."),
        (
            "params: {encoder: {astw: {}, rnn: {}}}",
            "has encoder: {'astw': {}, 'rnn': {}}, expected a name, or one name",
        ),
        ("params: {augment: gain}", "has augment: 'gain', expected a list"),
        ("params: {augment: [gain, null]}", "has augment[1]: None, expected a name, or one name with its parameters."),
    ],
)
def test_the_wrong_part_of_a_recipe_is_named(tmp_path, text, problem):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError, match=f"^{re.escape(repr(str(path)) + ' ' + problem)}"):
        load_recipe(path)


def test_the_recipe_that_was_meant_is_suggested():
    with pytest.raises(RecipeError, match=r"recipe='smal', expected one of 'astw', .*; did you mean 'small'\?$"):
        load_recipe("smal")
