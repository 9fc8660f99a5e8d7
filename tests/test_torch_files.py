"""Files of torch.save: what is kept of them, what is refused, and that nothing in them is executed."""

import json
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from skastw.errors import WeightsError
from skastw.storage.checkpoints import CONFIG, WEIGHTS, open_checkpoint, read_tensors
from skastw.storage.torch_files import WRAPPERS, convert_torch_file

SETTINGS = {"encoder_layers": 2, "deep_norm": True, "activation_fn": "gelu", "sizes": [1, 2.5, None]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return the folder for converted weights."""
    monkeypatch.setenv("SKASTW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def some_weights():
    generator = torch.Generator().manual_seed(0)
    return {"layer.weight": torch.randn(3, 4, generator=generator), "layer.bias": torch.randn(3, generator=generator)}


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def converted(tmp_path, content, **options):
    """Return the tensors and the settings that are kept of a file."""
    folder = convert_torch_file(saved(tmp_path / "x.pt", content, **options), tmp_path / "x")
    return load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text())


def assert_same(tensors, expected):
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


# ------------------------------------------------------------------ what is kept


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_a_state_dict_keeps_its_tensors_and_names(tmp_path, options):
    tensors, settings = converted(tmp_path, OrderedDict(some_weights()), **options)
    assert_same(tensors, some_weights())
    assert settings == {}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_weights_of_a_wrapper_are_kept_and_plain_values_beside_them_are_settings(tmp_path, wrapper):
    weights = {name: torch.nn.Parameter(tensor) for name, tensor in some_weights().items()}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    beside = {"cfg": SETTINGS, "epoch": 3, "optimizer": optimizer, "loss": float("nan"), "codes": b"abc", "by": {1: 2}}
    tensors, settings = converted(tmp_path, {"cfg": SETTINGS, wrapper: weights, **beside})
    assert_same(tensors, some_weights())
    assert settings == {"cfg": SETTINGS, "epoch": 3}


def test_wrappers_may_be_nested_and_nested_containers_become_names_with_dots(tmp_path):
    first, second = torch.ones(2), torch.zeros(3)
    content = {"cfg": {"a": 1}, "model": {"b": 2, "state_dict": {"layers": [{"w": first}, {"w": second}], "name": "x"}}}
    tensors, settings = converted(tmp_path, content)
    assert_same(tensors, {"layers.0.w": first, "layers.1.w": second})
    assert settings == {"cfg": {"a": 1}, "b": 2}


def test_tensors_of_other_types_and_shared_memory_become_copies_of_stored_types(tmp_path):
    base = torch.arange(6.0)
    content = {
        "base": base,
        "part": base[1:3],
        "turned": base.view(2, 3).T,
        "same": base,
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double() / 3,
        "count": torch.tensor(7, dtype=torch.int32),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }
    tensors, _ = converted(tmp_path, content)
    for name, tensor in content.items():
        expected = torch.float64 if name == "double" else torch.float32 if tensor.is_floating_point() else torch.int64
        assert tensors[name].dtype == expected
        assert torch.equal(tensors[name], tensor.to(expected))


def test_settings_are_kept_only_while_they_are_small(tmp_path):
    shared = ["x" * 1000]
    for _ in range(30):
        shared = [shared, shared]  # 2**30 strings in few bytes
    endless = []
    endless.append(endless)
    content = {"model": some_weights(), "shared": shared, "endless": endless, "long": "x" * 2**21, "kept": [1]}
    _, settings = converted(tmp_path, content)
    assert settings == {"kept": [1]}


# ------------------------------------------------------------------ what is refused


class Hostile:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [torch.save, write_pickle])
def test_a_pickle_that_needs_more_than_tensors_is_refused_and_nothing_is_executed(tmp_path, write):
    write({"model": some_weights(), "cfg": Hostile(tmp_path / "was here")}, tmp_path / "x.pt")
    for load in (open_checkpoint, lambda path: convert_torch_file(path, tmp_path / "x")):
        with pytest.raises(WeightsError, match=r"Python objects.*Nothing in it was executed") as raised:
            load(tmp_path / "x.pt")
        assert str(tmp_path / "x.pt") in str(raised.value)
    assert not (tmp_path / "was here").exists()
    assert not (tmp_path / "x").exists()


def nested_in_itself():
    content = some_weights()
    content["inner"] = content
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": {"a": 1}, "b": torch.zeros(1)}, "no weights"),
        ([], "no weights"),
        (torch.zeros(3), "no weights"),
        ({"a": {"b": torch.zeros(1)}, "a.b": torch.zeros(2)}, "two tensors with the name 'a.b'"),
        ({"a": torch.tensor([1.0, torch.nan])}, "'a' hold NaN"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "'a' are torch.complex64"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "'a' are .* layout torch.sparse_coo"),
        ({"a": torch.zeros(1).expand(2**40)}, "more than the limit"),
        (nested_in_itself(), "containers that contain each other"),
        ({"a": np.zeros(3)}, "Python objects"),
    ],
    ids=str,
)
def test_a_file_without_usable_weights_is_refused_with_the_reason(tmp_path, content, reason):
    with pytest.raises(WeightsError, match=reason):
        converted(tmp_path, content)
    assert not (tmp_path / "x").exists()


def test_a_damaged_file_is_refused(tmp_path):
    whole = saved(tmp_path / "x.pt", some_weights()).read_bytes()
    for content in (b"", b"text", whole[:-100], whole[: len(whole) // 2], bytes(1000)):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(WeightsError, match=r"x\.pt.*(damaged|not a file of torch\.save)"):
            convert_torch_file(tmp_path / "x.pt", tmp_path / "x")


def test_a_missing_file_is_named_with_a_similar_one(tmp_path):
    saved(tmp_path / "owls.pt", some_weights())
    with pytest.raises(WeightsError, match=r"no file .*owl\.pt.*did you mean 'owls\.pt'"):
        convert_torch_file(tmp_path / "owl.pt", tmp_path / "x")


# ------------------------------------------------------------------ as the weights of an encoder


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.ckpt", "x.BIN"])
def test_a_checkpoint_is_converted_once_for_each_content(tmp_path, cache, name):
    path = saved(tmp_path / name, {"model": some_weights(), "cfg": SETTINGS})
    first = open_checkpoint(path)
    assert first.stored[0].path.is_relative_to(cache)
    assert first.documents == {CONFIG: {"cfg": SETTINGS}}
    assert first.source == {"weights": name, "sha256": first.source["sha256"]}
    assert_same(read_tensors(first), some_weights())

    written = first.stored[0].path.stat().st_mtime_ns
    assert open_checkpoint(path, sha256=first.source["sha256"]).stored[0].path.stat().st_mtime_ns == written
    with pytest.raises(WeightsError, match="they were changed"):
        open_checkpoint(path, sha256="0" * 64)

    saved(path, {"model": {"other": torch.ones(1)}})
    assert list(read_tensors(open_checkpoint(path))) == ["other"]


def test_a_damaged_conversion_is_repeated(tmp_path):
    path = saved(tmp_path / "x.pt", some_weights())
    weights = open_checkpoint(path).stored[0].path
    weights.write_bytes(weights.read_bytes()[:-3])
    assert_same(read_tensors(open_checkpoint(path)), some_weights())


def test_a_cache_that_cannot_be_written_is_an_error_with_the_remedy(tmp_path, cache):
    cache.write_text("a file")
    with pytest.raises(WeightsError, match="Set SKASTW_CACHE to another folder"):
        open_checkpoint(saved(tmp_path / "x.pt", some_weights()))


def test_a_converted_folder_is_a_checkpoint_and_is_replaced_by_the_next_conversion(tmp_path):
    folder = convert_torch_file(saved(tmp_path / "x.pt", {"model": some_weights(), "cfg": SETTINGS}), tmp_path / "x")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.documents == {CONFIG: {"cfg": SETTINGS}}
    assert_same(read_tensors(checkpoint), some_weights())

    convert_torch_file(saved(tmp_path / "x.pt", {"other": torch.ones(1)}), folder)
    assert list(read_tensors(open_checkpoint(folder))) == ["other"]
    assert open_checkpoint(folder).documents == {CONFIG: {}}
