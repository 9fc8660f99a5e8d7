"""Random numbers of a run: the same bits whatever else draws in the process, and no trace in torch's generator."""

import threading

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from helpers import torch_seed
from skastw import ASTWClassifier
from skastw.core.component import component_names, resolve_component
from skastw.core.functional import dropout
from skastw.core.generators import OwnDraws, drawing_from, draws_globally, seeded_generators
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder, CRNNEncoder, Encoder, EncoderModule, RNNEncoder

CPU = torch.device("cpu")
CLIPS, Y = make_tones(n_clips=16, n_classes=2, duration=(0.1, 0.2), random_state=0)


class Dropping(EncoderModule):
    """A user's own network, which only knows torch's global generator."""

    def __init__(self, n_features, repeated):
        super().__init__()
        self.n_outputs, self.repeated = 8, repeated
        self.layer, self.drop = nn.Linear(n_features, 8), nn.Dropout(0.3)
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, frames, lengths):
        hidden = checkpoint(self.hidden, frames, use_reentrant=False) if self.repeated else self.hidden(frames)
        return hidden * self.scale, lengths

    def hidden(self, frames):
        return F.dropout(dropout(self.drop(self.layer(frames)), 0.1, self.training), 0.1, self.training)


class UsersEncoder(Encoder):
    """The parameters of that network; ``repeated`` computes the forward pass again on the way back."""

    def __init__(self, *, repeated=False):
        self.repeated = repeated

    def build(self, n_features, max_frames):
        return Dropping(n_features, self.repeated)


#: What trains in threads, and repeats.
MODELS = {
    "our dropout": {"encoder": ASTWEncoder(d_model=16, num_heads=2, num_layers=1, dropout=0.3)},
    "several networks": {"encoder": ASTWEncoder(d_model=16, num_heads=2, num_layers=1), "n_models": 2},
    "convolutions and a GRU": {"encoder": CRNNEncoder(dropout=0.3)},
    "a GRU with dropout": {"encoder": RNNEncoder(cell="gru", hidden=16, num_layers=2, dropout=0.3)},
    "a GRU both ways, in bfloat16": {
        "encoder": RNNEncoder(cell="gru", hidden=16, bidirectional=True),
        "precision": "bfloat16",
    },
    "a user's encoder": {"encoder": UsersEncoder()},
}
#: Models that draw from nothing but generators of their own.
OURS = ["our dropout", "several networks", "convolutions and a GRU", "a GRU both ways, in bfloat16"]


def trained(name, **params):
    """Return the weights that a model ends with."""
    settings = {"epochs": 3, "batch_size": 4, "val_split": None, **MODELS[name], **params}
    return ASTWClassifier(**settings).fit(CLIPS, Y).model_.state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def together(*works):
    """Return what functions return that run in threads at once; all of them begin together."""
    barrier, results = threading.Barrier(len(works)), [None] * len(works)

    def begin(number, work):
        torch.set_num_threads(1)
        barrier.wait()
        results[number] = work()

    threads = [threading.Thread(target=begin, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def other_draws():
    """Let another thread draw from torch's global generator all the time."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            torch.rand(7)

    thread = threading.Thread(target=draw)
    thread.start()
    yield
    stop.set()
    thread.join()


# ------------------------------------------------------------------ fits in threads


@pytest.mark.parametrize("name", MODELS)
def test_fits_in_threads_end_as_each_alone(name):
    [alone], [other] = together(lambda: trained(name)), together(lambda: trained(name, random_state=1))
    assert not same(alone, other)
    for _ in range(3):
        found = together(lambda: trained(name), lambda: trained(name, random_state=1), lambda: trained("our dropout"))
        assert same(found[0], alone)
        assert same(found[1], other)


@pytest.mark.parametrize("name", OURS)
def test_what_else_draws_in_the_process_does_not_matter(name, other_draws):
    [first], [second] = together(lambda: trained(name)), together(lambda: trained(name))
    assert same(first, second)


@pytest.mark.parametrize("name", [*MODELS, "resumed"])
def test_torchs_global_generator_is_left_alone(name, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    if name == "resumed":
        for _ in range(2):
            trained("a GRU with dropout", checkpoint_dir=tmp_path)
    else:
        trained(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_of_other_threads_are_not_taken_back():
    """A fit does not set torch's generator to what it was before, when others have drawn since."""
    torch.manual_seed(5)
    expected = [torch.rand(3) for _ in range(2)]
    torch.manual_seed(5)
    drawn = []

    class Drawing(UsersEncoder):
        def build(self, n_features, max_frames):
            thread = threading.Thread(target=lambda: drawn.append(torch.rand(3)))
            thread.start()
            thread.join()
            return super().build(n_features, max_frames)

    ASTWClassifier(encoder=Drawing(), epochs=1).fit(CLIPS, Y)
    drawn.append(torch.rand(3))
    for one, other in zip(drawn, expected, strict=True):
        assert torch.equal(one, other)


def test_a_search_over_threads_scores_as_one_that_is_not():
    grid = {"encoder__dropout": [0.1, 0.5], "random_state": [0, 1]}
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    search = GridSearchCV(ASTWClassifier(encoder=encoder, epochs=2), grid, cv=2, scoring="neg_log_loss", refit=False)
    scores = []
    for n_jobs in (1, 2):
        with joblib.parallel_backend("threading", n_jobs=n_jobs):
            scores.append(together(lambda: search.fit(CLIPS, Y).cv_results_["mean_test_score"])[0])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    assert len(np.unique(scores[0])) == 4


# ------------------------------------------------------------------ the pieces


#: Encoders with modules of another package, which may draw from torch's global generators.
FOREIGN = ("image", "transformers")


@pytest.mark.parametrize("name", [name for name in component_names("encoder") if name not in FOREIGN])
def test_our_encoders_draw_from_no_global_generator(name):
    encoder = resolve_component(Encoder, name)
    small = {"d_model": 48, "width": 8, "hidden": 8, "channels": 8, "dropout": 0.2}
    encoder.set_params(**{key: value for key, value in small.items() if key in encoder.get_params()})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    generators = seeded_generators(0, CPU)
    with OwnDraws(generators):
        module = encoder.build(80, 100)
    assert not draws_globally(module)
    with drawing_from(generators, borrow=False):
        module.train()(torch.ones(2, 60, 80), torch.tensor([60, 40]))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_is_built_of_the_numbers_that_a_seed_gives():
    def build():
        layers = nn.TransformerEncoderLayer(8, 2), nn.GRU(3, 4, 2), nn.Conv1d(3, 4, 5), nn.Embedding(5, 6)
        others = [
            torch.randn(20),
            torch.rand(3),
            torch.randperm(9),
            torch.randint(0, 9, (4,)),
            torch.normal(0.0, 1.0, (4,)),
        ]
        others += [
            nn.init.trunc_normal_(torch.empty(30)),
            nn.init.orthogonal_(torch.empty(4, 4)),
            torch.rand_like(others[0]),
        ]
        return [*[weight for layer in layers for weight in layer.parameters()], *others]

    with torch_seed(3):
        expected = build()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    generators = seeded_generators(3, CPU)
    with OwnDraws(generators):
        found = build()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(2, 2), False),
        (nn.GRU(2, 2), False),
        (nn.Dropout(0.0), False),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), True),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.TransformerEncoderLayer(4, 2), True),
        (nn.RReLU(), True),
        (Dropping(3, False), True),
    ],
    ids=lambda value: str(value).partition("(")[0],
)
def test_which_modules_may_draw_from_the_global_generator(module, expected):
    assert draws_globally(module) == expected


def test_borrowed_draws_go_on_where_they_were_and_are_given_back_after_an_error():
    expected = torch.rand(6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    before, generators, drawn = torch.get_rng_state(), seeded_generators(0, CPU), []

    def draw_and_fail():
        with drawing_from(generators, borrow=True):
            drawn.append(torch.rand(2))
            raise ZeroDivisionError

    with drawing_from(generators, borrow=True):
        drawn.append(torch.rand(2))
    with pytest.raises(ZeroDivisionError):
        draw_and_fail()
    with drawing_from(generators, borrow=True):
        drawn.append(torch.rand(2))
    assert torch.equal(torch.cat(drawn), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_forward_pass_that_is_repeated_on_the_way_back_drops_the_same_values():
    """torch.utils.checkpoint repeats only what was drawn from the global generators."""
    plain, repeated = (
        ASTWClassifier(encoder=UsersEncoder(repeated=repeated), epochs=3, batch_size=4).fit(CLIPS, Y)
        for repeated in (False, True)
    )
    assert same(plain.model_.state_dict(), repeated.model_.state_dict())


def test_dropout_outside_a_run_draws_from_the_global_generator():
    torch.manual_seed(0)
    first = dropout(torch.ones(100), 0.5, training=True)
    assert not torch.equal(dropout(torch.ones(100), 0.5, training=True), first)
    torch.manual_seed(0)
    assert torch.equal(dropout(torch.ones(100), 0.5, training=True), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_dropout_in_a_run_draws_from_its_generator(dtype):
    def drop():
        with drawing_from(seeded_generators(0, CPU), borrow=False):
            return dropout(torch.ones(1000, dtype=dtype), 0.25, training=True)

    first = drop()
    torch.rand(3)
    assert torch.equal(drop(), first)
    assert 0.2 < float((first == 0).float().mean()) < 0.3
    assert float(first.max()) == pytest.approx(4 / 3, rel=1e-3)
