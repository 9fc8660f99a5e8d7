"""Parameters that are declared once: what follows from a declaration, and that the estimators' documentation agrees."""

from __future__ import annotations

import ast
import inspect
import json
import pickle
import re
from numbers import Integral, Real
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWPretrainer, ASTWRegressor
from skastw.core.parameters import check_params, param, param_names, parameters, take_params
from skastw.core.sklearn_private import Interval, InvalidParameterError, StrOptions
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ArtifactError
from skastw.estimators.base import AudioEstimator
from skastw.network.inference import InferenceParams
from skastw.training import TrainingParams, TrainingSettings
from skastw.training.optim import peak_rates
from skastw.training.settings import DEFAULT_STEPS

TINY = ASTWEncoder(d_model=8, num_heads=2, num_layers=1, ff_mult=2)
CLIPS, Y = make_tones(n_clips=8, n_classes=2, duration=(0.1, 0.2), random_state=0)
ESTIMATORS = [ASTWClassifier, ASTWRegressor, ASTWPretrainer, ASTWFeaturizer]
LEARNERS = [ASTWClassifier, ASTWRegressor]


@parameters
class Speed:
    """How fast it goes."""

    rate: float = param(default=0.5, valid=[Interval(Real, 0, 1, closed="left")], doc="Share of the way.")
    gear: str = param(default="low", valid=[StrOptions({"low", "high", "auto"})], doc="Ratio. " + "Long words. " * 12)


@parameters
class Limits:
    """How far it goes."""

    steps: int | None = param(
        default=None, valid=[Interval(Integral, 1, None, closed="left"), None], doc="Steps.", saved=False
    )


@parameters
class Walker(Limits, Speed, BaseEstimator):
    """Walk.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    place_ : float
    """

    rate: float = param(default=0.25, valid=[Interval(Real, 0, 2, closed="left")], doc="Share, declared again.")
    load: dict | str | None = param(default=None, valid=[dict, StrOptions({"even"}), None], doc="Weights.")

    def fit(self, X, y=None):
        self.place_ = self.rate * (self.steps or 1)
        return self

    def score(self, X, y=None):
        return self.place_


# ------------------------------------------------------------------ a declaration


def test_parameters_have_their_defaults_and_are_given_by_name():
    walker = Walker()
    assert walker.get_params() == {"gear": "low", "load": None, "rate": 0.25, "steps": None}
    assert Walker(gear="high", steps=3).get_params() == {"gear": "high", "load": None, "rate": 0.25, "steps": 3}
    with pytest.raises(TypeError):
        Walker(0.5)
    with pytest.raises(TypeError, match="pace"):
        Walker(pace=1)


def test_init_assigns_and_nothing_else():
    marker = object()
    walker = Walker(rate=marker, load=marker)
    assert walker.rate is marker
    assert walker.load is marker
    assert vars(walker).keys() == {"rate", "gear", "steps", "load"}


def test_a_class_redeclares_a_parameter_and_leaves_its_bases():
    assert (Speed().rate, Walker().rate) == (0.5, 0.25)
    check_params(Walker(rate=1.5), "Walker")
    with pytest.raises(InvalidParameterError, match=r"'rate' parameter of Speed must be .* range \[0.0, 1.0\)"):
        check_params(Speed(rate=1.5), "Speed")


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"rate": -0.1}, r"'rate' parameter of Walker must be a float in the range \[0.0, 2.0\). Got -0.1"),
        ({"rate": "fast"}, "'rate'"),
        ({"gear": "middle"}, "'gear' parameter of Walker must be a str among .*'high'.* Got 'middle'"),
        ({"steps": 0}, "'steps'"),
        ({"steps": 1.5}, "'steps'"),
        ({"load": "uneven"}, "'load'"),
        ({"load": [1]}, "'load'"),
    ],
)
def test_constraints_are_checked(params, match):
    with pytest.raises(InvalidParameterError, match=match):
        check_params(Walker(**params), "Walker")


@pytest.mark.parametrize("params", [{}, {"steps": 1}, {"load": {}}, {"load": "even"}, {"rate": 0}])
def test_what_the_constraints_allow_passes(params):
    assert check_params(Walker(**params), "Walker") is None


def test_the_documentation_follows_from_the_declarations():
    head, _, rest = Walker.__doc__.partition("----------\n")
    entries, _, attributes = rest.partition("\n\n    Attributes\n")
    assert "place_ : float" in attributes
    assert "Walk." in head
    lines = entries.splitlines()
    names = [line.strip() for line in lines if re.match(r"    \S", line)]
    assert names == [
        "rate : float, default=0.25",
        'gear : {"low", "auto", "high"}, default="low"',
        "steps : int or None, default=None",
        'load : dict, {"even"} or None, default=None',
    ]
    assert "        Share, declared again." in lines
    assert "Share of the way" not in entries
    assert max(map(len, lines)) <= 120
    assert "Long words. Long words." in " ".join(entries.split())


def test_a_class_without_a_place_for_them_documents_them_at_its_end():
    section = "    Parameters\n    ----------\n    steps : int or None, default=None\n        Steps."
    assert Limits.__doc__.rstrip() == f"How far it goes.\n\n{section}"


def test_which_parameters_are_saved():
    assert param_names(Walker, saved=False) == ["steps"]
    assert sorted(param_names(Walker, saved=True)) == ["gear", "load", "rate"]


def test_a_group_is_taken_as_the_owner_is_now():
    walker = Walker(rate=0.125)
    assert take_params(Speed, walker).rate == 0.125
    walker.set_params(rate=0.75, gear="high")
    speed = take_params(Speed, walker)
    walker.set_params(rate=1.0)
    assert (speed.rate, speed.gear, type(speed)) == (0.75, "high", Speed)
    assert not hasattr(speed, "steps")


def test_scikit_learn_takes_such_a_class_for_an_estimator():
    walker = Walker(steps=4, load={"a": 1.0})
    copied, cloned = pickle.loads(pickle.dumps(walker)), clone(walker)
    for other in (copied, cloned):
        assert other is not walker
        assert other.get_params() == walker.get_params()
    assert cloned.load is not walker.load
    assert repr(walker) == "Walker(load={'a': 1.0}, steps=4)"
    assert walker != Walker(steps=4, load={"a": 1.0})
    search = GridSearchCV(Walker(), {"rate": [0.25, 1.0, 0.5], "steps": [1, 2]}, cv=2).fit(np.zeros((4, 1)))
    assert search.best_params_ == {"rate": 1.0, "steps": 2}


# ------------------------------------------------------------------ the estimators


def documented(cls):
    """Return the parameters in the docstring of an estimator, as pairs of a name and the text behind it."""
    section = cls.__doc__.partition("Parameters\n    ----------\n")[2].partition("\n\n    Attributes\n")[0]
    return re.findall(r"^    (\w+) : (.+)$", section, flags=re.MULTILINE)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_each_parameter_is_documented_once_with_its_default(cls):
    entries = documented(cls)
    defaults = cls().get_params(deep=False)
    assert sorted(name for name, _ in entries) == sorted(defaults)
    for name, text in entries:
        assert ast.literal_eval(text.rpartition("default=")[2]) == defaults[name], name
    assert "{parameters}" not in cls.__doc__


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_each_parameter_is_explained_in_sentences(cls):
    parts = re.split(
        r"^    \w+ : .+$", cls.__doc__.partition("Parameters\n")[2].partition("Attributes\n")[0], flags=re.M
    )
    for explanation in parts[1:]:
        assert re.match(r"\s+[A-Z`\d].*\.\s*$", explanation, flags=re.S), explanation


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_parameters_are_keywords_with_a_check_that_their_default_passes(cls):
    signature = inspect.signature(cls).parameters
    assert {item.kind for item in signature.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert {name: item.default for name, item in signature.items()} == cls().get_params(deep=False)
    assert cls._parameter_constraints.keys() == signature.keys()
    cls()._validate_params()


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_each_parameter_refuses_another_type(cls):
    for name in cls().get_params(deep=False):
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of {cls.__name__}"):
            cls(**{name: object()})._validate_params()


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_estimators_are_cloned_pickled_and_shown_with_their_parameters(cls):
    others = {"sample_rate": 8000, "verbose": 2, "on_error": "warn", "n_jobs": 3}
    estimator = cls(**others)
    for other in (clone(estimator), pickle.loads(pickle.dumps(estimator)), cls().set_params(**others)):
        assert other.get_params(deep=False) == estimator.get_params(deep=False)
    shown = "".join(repr(estimator).split())
    assert shown == f"{cls.__name__}(n_jobs=3,on_error='warn',sample_rate=8000,verbose=2)"
    assert repr(cls()) == f"{cls.__name__}()"


@pytest.mark.parametrize("cls", LEARNERS)
def test_parameters_of_the_machine_do_not_travel(cls, tmp_path):
    unsaved = param_names(cls, saved=False)
    assert set(unsaved) == {
        *(
            "cache",
            "cache_dir",
            "cache_size",
            "checkpoint_dir",
            "device",
            "init_from",
            "init_train",
            "n_jobs",
            "verbose",
        ),
        "warm_start",
    }
    y = Y if cls is ASTWClassifier else Y.astype(float)
    estimator = cls(encoder=TINY, epochs=1, val_split=None, device="cpu", n_jobs=2, cache="disk", adam_lr=0.002)
    folder = Path(estimator.fit(CLIPS, y).save_pretrained(tmp_path / "model"))
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))["params"]
    components = {"features", "augment", "normalization", "encoder", "pooling", "side"}
    assert stored.keys() == estimator.get_params(deep=False).keys() - set(unsaved) - components
    loaded = cls.from_pretrained(folder)
    assert (loaded.n_jobs, loaded.cache, loaded.adam_lr, loaded.val_split) == (None, "auto", 0.002, None)


def test_the_groups_of_the_estimators_share_no_parameter_but_by_inheritance():
    names = [
        set(param_names(cls, saved=True) + param_names(cls, saved=False)) for cls in (TrainingParams, InferenceParams)
    ]
    assert not names[0] & names[1]
    assert names[0] | names[1] < set(AudioEstimator().get_params(deep=False))


def test_settings_of_a_run_need_what_has_no_default():
    with pytest.raises(TypeError, match="batch_size"):
        TrainingSettings()
    estimator = ASTWClassifier(epochs=7, muon_lr=None)
    settings = take_params(
        TrainingSettings, estimator, batch_size=3, device="cpu", precision="float32", seed=1, verbose=0
    )
    assert (settings.epochs, settings.batch_size, settings.seed) == (7, 3, 1)
    assert peak_rates(settings) == {"adam_lr": 3e-4, "pretrained_lr": 1e-4}


@pytest.mark.parametrize(
    ("min_steps", "n_clips", "epochs"), [(0, 10, 2), (4, 8, 2), (5, 8, 3), (100, 8, 50), (9, 9, 3)]
)
def test_settings_last_for_so_many_steps(min_steps, n_clips, epochs):
    settings = TrainingSettings(
        epochs=2, min_steps=min_steps, batch_size=4, device="cpu", precision="float32", seed=1, verbose=0
    )
    assert settings.lasting(n_clips).n_epochs == epochs
    assert (settings.epochs, settings.n_epochs) == (2, 2)


@pytest.mark.parametrize(("n_clips", "epochs"), [(1, 100), (8, 100), (160, 50), (4 * DEFAULT_STEPS, 30)])
def test_without_a_number_of_epochs_a_small_data_set_gets_more_of_them(n_clips, epochs):
    settings = TrainingSettings(batch_size=4, device="cpu", precision="float32", seed=1, verbose=0)
    assert settings.lasting(n_clips).n_epochs == epochs


# ------------------------------------------------------------------ a parameter of one's own


@parameters
class PetParams:
    """What the pets eat."""

    food: str = param(default="hay", valid=[StrOptions({"hay", "fish"})], doc="What the pets eat.")
    bowl: int = param(default=1, valid=[Interval(Integral, 1, 9, closed="both")], doc="Which bowl.", saved=False)


@parameters
class PetClassifier(PetParams, ASTWClassifier):
    """Classify pets.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray
    """


def pets(**params):
    return PetClassifier(**{"encoder": TINY, "epochs": 1, "val_split": None, **params})


def test_a_new_parameter_is_declared_once(tmp_path):
    assert ("food", '{"hay", "fish"}, default="hay"') in documented(PetClassifier)
    assert pets().get_params()["food"] == "hay"
    with pytest.raises(InvalidParameterError, match="'food' parameter of PetClassifier"):
        pets(food="stones").fit(CLIPS, Y)
    with pytest.raises(InvalidParameterError, match="'bowl' parameter of PetClassifier"):
        pets(bowl=10).fit(CLIPS, Y)
    with pytest.raises(ValueError, match="did you mean 'food'"):
        pets().set_params(fodo="hay")

    model = pets(food="fish", bowl=2).fit(CLIPS, Y)
    assert model.trained_.params["food"] == "fish"
    assert "bowl" not in model.trained_.params
    folder = model.save_pretrained(tmp_path / "pets")
    loaded = PetClassifier.from_pretrained(folder)
    assert (loaded.food, loaded.bowl) == ("fish", 1)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), model.predict_proba(CLIPS))
    with pytest.raises(ArtifactError, match="'PetClassifier', expected 'ASTWClassifier'"):
        ASTWClassifier.from_pretrained(folder)


def test_a_checkpoint_belongs_to_the_saved_parameters(tmp_path):
    def n_files(**params):
        pets(checkpoint_dir=tmp_path, **params).fit(CLIPS, Y)
        return len(list(tmp_path.iterdir()))

    assert [n_files(), n_files(), n_files(bowl=2), n_files(food="fish"), n_files(adam_lr=0.1)] == [1, 1, 1, 2, 3]


def test_a_grid_reaches_own_parameters_and_those_of_components():
    grid = {"food": ["hay", "fish"], "encoder__d_model": [4, 8]}
    search = GridSearchCV(pets(), grid, cv=2, refit=False, error_score="raise").fit(CLIPS, Y)
    assert [sorted(params) for params in search.cv_results_["params"]] == [["encoder__d_model", "food"]] * 4


# ------------------------------------------------------------------ corners


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (float, "float"),
        (int | None, "int or None"),
        (Optional[str], r"Optional\[str\]"),  # noqa: UP045
        (list[str], r"list\[str\]"),
        (list[str] | None, r"list\[str\] or None"),
    ],
)
def test_a_module_may_evaluate_its_annotations(annotation, shown):
    """As one without ``from __future__ import annotations`` does, in which a type is no text."""

    class Group:
        """A group."""

        __annotations__ = {"rate": annotation}
        rate = param(default=None, valid=[None], doc="Share.")

    assert re.search(rf"rate : {shown}, default=None", parameters(Group).__doc__)
