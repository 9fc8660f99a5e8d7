"""Well-known checkpoints: their facts, the code that uses them, and their download."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from msgspec import structs
from safetensors.torch import load_file

from skastw import ASTWClassifier, encoders
from skastw.cli import cli
from skastw.core.component import component_names
from skastw.datasets import make_tones
from skastw.encoders import PretrainedEncoder, TransformersEncoder, fetch_pretrained, list_pretrained
from skastw.encoders import _known as known_module
from skastw.encoders._known import code_of
from skastw.errors import WeightsError
from skastw.storage.checkpoints import open_checkpoint, read_tensors
from skastw.storage.known_checkpoints import known_checkpoints, suggested_weights

KNOWN = known_checkpoints()
CLIPS, Y = make_tones(n_clips=6, n_classes=2, random_state=0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return the folder for converted and downloaded weights."""
    monkeypatch.setenv("SKASTW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def torch_folder(wav2vec2_folder, tmp_path):
    """Return a folder with the same checkpoint as a file of torch.save."""
    folder = shutil.copytree(wav2vec2_folder, tmp_path / "torch")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def skastw(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def forget(monkeypatch, **changes):
    """Let ``wavlm-base`` be another checkpoint."""
    changed = structs.replace(KNOWN["wavlm-base"], **changes)
    monkeypatch.setattr(known_module, "known_checkpoint", lambda name: changed)


# ------------------------------------------------------------------ the facts


@pytest.mark.parametrize("name", KNOWN)
def test_facts_are_complete_and_have_sources(name):
    known = KNOWN[name]
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]+", name)
    assert (known.repository is None) != (known.url is None)
    assert known.revision is None or re.fullmatch("[0-9a-f]{40}", known.revision)
    assert known.sha256 is None or re.fullmatch("[0-9a-f]{64}", known.sha256)
    assert known.url is None or known.sha256, "a file that is not on the Hub is only known by its hash"
    assert known.sha256 is None or known.repository is None or known.revision, "a hash is that of a commit"
    assert re.fullmatch("[a-z0-9.-]+", known.license)
    assert all(source.startswith("https://") for source in known.source)
    assert re.fullmatch(r'.+ et al\., ".+", \d{4}\.', known.citation)


def test_names_repositories_and_hashes_are_unique():
    for key in ("repository", "sha256", "url"):
        values = [value for value in (getattr(known, key) for known in KNOWN.values()) if value]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", KNOWN)
def test_the_code_makes_a_valid_classifier(name, monkeypatch):
    known = KNOWN[name]
    encoder = getattr(encoders, known.encoder)
    assert issubclass(encoder, PretrainedEncoder)
    monkeypatch.setattr(encoders, "fetch_pretrained", lambda name: f"{name}.pt")
    namespace = {}
    exec(code_of(name), namespace)
    clf = namespace["clf"]
    clf._validate_params()
    clf.encoder.check_params()
    assert clf.sample_rate == (known.sample_rate or 16000)
    assert clf.encoder.weights in (known.repository, f"{name}.pt")
    assert encoder.name in component_names("encoder")


def test_the_table_has_every_checkpoint_and_can_be_filtered():
    table = list_pretrained()
    assert table.index.tolist() == list(KNOWN)
    assert table["parameters"].dtype.kind == "i"
    assert table.loc["wavlm-base", ["bytes", "sha256", "url"]].isna().all()

    assert set(list_pretrained(task="sounds")["task"]) == {"sounds"}
    assert set(list_pretrained(license="mit")["license"]) == {"mit"}
    small = list_pretrained(max_parameters=50e6)
    assert 0 < len(small) < len(table)
    assert small["parameters"].max() <= 50e6
    assert list_pretrained(license="none").empty
    with pytest.raises(WeightsError, match=r"Got task='speach', expected one of .*; did you mean 'speech'"):
        list_pretrained(task="speach")


# ------------------------------------------------------------------ the commands


def test_the_list_is_a_table_or_json():
    result = skastw("pretrained", "list", "--task", "sounds", "--max-size", 100)
    header, *rows = result.stdout.splitlines()
    assert header.split()[:3] == ["name", "task", "parameters"]
    assert [row.split()[0] for row in rows] == list_pretrained(task="sounds", max_parameters=100e6).index.tolist()

    lines = [json.loads(line) for line in skastw("pretrained", "list", "--json").stdout.splitlines()]
    assert [line["name"] for line in lines] == list(KNOWN)
    assert "sha256" not in next(line for line in lines if line["name"] == "wavlm-base")
    assert skastw("pretrained", "list", "--licence", "cc-by-4.0").stdout.splitlines()[1].startswith("panns-cnn14")


@pytest.mark.parametrize("name", ["wavlm-base-plus", "panns-cnn14", "wav2vec2-large-robust"])
def test_info_has_every_fact_and_the_code(name):
    known, text = KNOWN[name], skastw("pretrained", "info", name).stdout
    facts = (known.license, known.citation, known.revision, known.sha256, known.repository, known.url, *known.source)
    assert all(fact in text for fact in facts if fact is not None)
    assert text.endswith(f"\n\n{code_of(name)}\n")
    assert ("not published" in text) == (known.sha256 is None)
    assert json.loads(skastw("pretrained", "info", name, "--json").stdout)["code"] == code_of(name)


def test_an_unknown_name_is_answered_with_a_similar_one():
    for command in ("info", "fetch"):
        error = skastw("pretrained", command, "wavlm-bose").exception
        assert "Got name='wavlm-bose', expected one of 'wav2vec2-base', " in str(error)
        assert "did you mean 'wavlm-base'?" in str(error)


def test_convert_writes_a_folder_of_weights(torch_folder, wav2vec2_folder, tmp_path):
    result = skastw("pretrained", "convert", torch_folder / "pytorch_model.bin", tmp_path / "new")
    assert result.stdout == f"{tmp_path / 'new'}\n"
    expected = load_file(wav2vec2_folder / "model.safetensors")
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# ------------------------------------------------------------------ weights of torch.save in a folder


def test_a_folder_with_a_file_of_torch_save_is_a_checkpoint(torch_folder, wav2vec2_folder):
    checkpoint, expected = open_checkpoint(torch_folder), open_checkpoint(wav2vec2_folder)
    assert checkpoint.documents == expected.documents
    assert checkpoint.source["weights"] == "torch"
    tensors, wanted = read_tensors(checkpoint), read_tensors(expected)
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)

    outputs = [
        ASTWClassifier(features="waveform", encoder=TransformersEncoder(weights=folder), epochs=1, augment=None)
        .fit(CLIPS, Y)
        .predict_proba(CLIPS)
        for folder in (torch_folder, wav2vec2_folder)
    ]
    np.testing.assert_array_equal(*outputs)


def test_safetensors_are_preferred(torch_folder, wav2vec2_folder):
    shutil.copy(wav2vec2_folder / "model.safetensors", torch_folder)
    (torch_folder / "pytorch_model.bin").write_bytes(b"damaged")
    assert open_checkpoint(torch_folder).source["sha256"] == open_checkpoint(wav2vec2_folder).source["sha256"]


def test_a_damaged_file_and_another_hash_are_errors(torch_folder):
    with pytest.raises(WeightsError, match=r"SHA-256 is [0-9a-f]{64}, expected 00"):
        open_checkpoint(torch_folder, sha256="00")
    (torch_folder / "pytorch_model.bin").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"cannot be converted: .* is not a file of torch\.save"):
        open_checkpoint(torch_folder)


# ------------------------------------------------------------------ names, licences and citations


@pytest.mark.parametrize("weights", ["wavlm-base-plus", "wavlm_base_plus"])
def test_the_repository_that_was_meant_is_suggested(weights):
    with pytest.raises(WeightsError, match=r"Did you mean weights='microsoft/wavlm-base-plus'\?"):
        TransformersEncoder(weights=weights).checkpoint()
    assert "'microsoft/wavlm-base-plus'" in suggested_weights("microsft/wavlm-base-plus")
    assert KNOWN["panns-cnn14"].url in suggested_weights("panns_cnn14")
    assert "'BEATs_iter3_plus_AS2M.pt' of Bencr/beats-checkpoints?" in suggested_weights("beats_iter3_plus")


def test_other_names_get_no_suggestion(tmp_path):
    for weights in ("owls.pt", str(tmp_path)):
        with pytest.raises(WeightsError) as raised:
            open_checkpoint(weights)
        assert "Did you mean" not in str(raised.value)


def test_known_weights_have_a_licence_and_a_citation_in_the_model_card(torch_folder, tmp_path, monkeypatch):
    sha256 = open_checkpoint(torch_folder).source["sha256"]
    changed = structs.replace(KNOWN["wavlm-base"], sha256=sha256)
    monkeypatch.setattr("skastw.storage.known_checkpoints.known_checkpoints", lambda: {"wavlm-base": changed})
    encoder = TransformersEncoder(weights=torch_folder)
    clf = ASTWClassifier(features="waveform", encoder=encoder, epochs=1, augment=None).fit(CLIPS, Y)
    card = Path(clf.save_pretrained(tmp_path / "model"), "README.md").read_text()
    assert "license: cc-by-sa-3.0" in card
    assert 'Chen et al., "WavLM: Large-Scale' in card

    (torch_folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert open_checkpoint(torch_folder).source["license"] == "mit"  # what the authors say comes first


# ------------------------------------------------------------------ downloads

FETCH = """
import json, sys, warnings
from msgspec import structs
from skastw.encoders import _known, fetch_pretrained
from skastw.storage.known_checkpoints import known_checkpoints

for line in sys.argv[1:]:
    known = structs.replace(known_checkpoints()["wavlm-base"], repository="user/net", **json.loads(line))
    _known.known_checkpoint = lambda name: known
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print(json.dumps([fetch_pretrained("wavlm-base"), [str(warning.message) for warning in caught]]))
"""


def fetch(server, home, *facts, **environment):
    """Fetch checkpoints with these facts in a process of its own, which reads the address of the Hub once."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    hub = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    command = [sys.executable, "-c", FETCH, *map(json.dumps, facts)]
    result = subprocess.run(command, env={**kept, **hub, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_repository_is_fetched_once_and_checked(hub_server, torch_folder, tmp_path):
    commit = hub_server.add("user/net", {path.name: path.read_bytes() for path in torch_folder.iterdir()})
    sha256 = open_checkpoint(torch_folder).source["sha256"]
    pinned, unpinned = {"revision": commit, "sha256": sha256}, {"revision": None, "sha256": None}

    first, second = fetch(hub_server, tmp_path / "home", pinned, unpinned)
    assert Path(first[0]).name == commit
    assert open_checkpoint(first[0]).source["sha256"] == sha256
    assert first[1] == []
    assert second[0] == first[0]
    assert f"pin its commit: revision='{commit}'" in second[1][0]
    assert f"No SHA-256 of 'wavlm-base' is published. This download has {sha256}." in second[1][1]

    file = {**pinned, "file": "pytorch_model.bin"}
    seen = len(hub_server.seen)
    assert fetch(hub_server, tmp_path / "home", pinned, file, HF_HUB_OFFLINE="1") == [first, first]
    assert len(hub_server.seen) == seen


@pytest.fixture
def web(torch_folder):
    """Return the address of a server of the folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(torch_folder))
    handler.log_message = lambda *_: None
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_file_that_is_not_on_the_hub_is_downloaded_once(web, torch_folder, cache, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sha256 = open_checkpoint(torch_folder).source["sha256"]
    there = {"repository": None, "revision": None, "url": f"{web}/pytorch_model.bin", "file": "net.pt"}
    forget(monkeypatch, sha256=sha256, **there)
    path = Path(fetch_pretrained("wavlm-base"))
    assert path == cache / "downloads" / "wavlm-base" / "net.pt"

    (torch_folder / "pytorch_model.bin").unlink()
    assert fetch_pretrained("wavlm-base") == str(path)
    path.unlink()
    with pytest.raises(WeightsError, match=r"cannot be downloaded from http.*404.*with a browser, and copy them to"):
        fetch_pretrained("wavlm-base")
