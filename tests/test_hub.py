"""Pushing and pulling with huggingface_hub's own requests, through a small Hub on 127.0.0.1 where things go wrong."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from skastw import ASTWClassifier
from skastw.artifact.folder import FETCHED, FILES
from skastw.datasets import make_tones
from skastw.errors import ArtifactError
from skastw.storage import hub

WRITE, READ, STRANGER = "hf_writesTheTones", "hf_mayReadThem", "hf_isAStranger"
CLIPS, _ = make_tones(n_clips=6, random_state=0)

# huggingface_hub reads where the Hub is when it is imported, so what is tested runs in a process of its own: one for
# all tests, which does what it is told in a line of JSON. It only waits less than it would between its attempts.
CLIENT = """
import json, os, sys, time, traceback, warnings
from huggingface_hub import constants, file_download
from skastw import ASTWClassifier, ASTWRegressor
from skastw.artifact.folder import read_files
from skastw.storage import hub
from skastw.datasets import make_tones

clips, _ = make_tones(n_clips=6, random_state=0)
pause = time.sleep
time.sleep = lambda seconds: pause(min(seconds, 0.02))
constants.DOWNLOAD_CHUNK_SIZE = 4096

def pull(*where, **how):
    return ASTWClassifier.from_pretrained(*where, **how).predict_proba(clips).tolist()

def pull_as_regressor(*where, **how):
    ASTWRegressor.from_pretrained(*where, **how)

def start_from(where):
    start = ASTWClassifier(init_from=where, epochs=1, adam_lr=0, muon_lr=0, weight_decay=0, val_split=None)
    start.set_params(encoder__d_model=16, encoder__num_heads=2, encoder__num_layers=1)
    return start.fit(clips, ["low", "mid", "high"] * 2).predict_proba(clips).tolist()

def push(folder, *where, **how):
    return ASTWClassifier.from_pretrained(folder).push_to_hub(*where, **how)

def push_folder(folder, *where, **how):
    return hub.push(read_files(folder), *where, **how)

def frames_of_encoder(where, samples, **how):
    import torch
    from skastw.encoders import TransformersEncoder

    encoder = TransformersEncoder(weights=where, **how).resolved(16000, 1.0)
    module = encoder.build(1, 16000).eval()
    module.load_state_dict(dict(encoder.initial_weights()))
    frames, _ = module(torch.tensor(samples)[None, :, None], torch.tensor([len(samples)]))
    return {"frames": frames[0].tolist(), "source": encoder.source}

def wait(seconds):
    constants.HF_HUB_ETAG_TIMEOUT = constants.HF_HUB_DOWNLOAD_TIMEOUT = file_download._ETAG_RETRY_TIMEOUT = seconds

def environ(name, value):
    os.environ.pop(name, None)
    os.environ.update({name: value} if value else {})

for line in sys.stdin:
    name, args, kwargs = json.loads(line)
    answer = {"value": None, "error": "", "message": "", "shown": ""}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer["value"] = globals()[name](*args, **kwargs)
        except Exception as error:
            answer.update(error=type(error).__name__, message=str(error), shown=traceback.format_exc())
    answer["warnings"] = [str(item.message) for item in caught if "pin its commit" in str(item.message)]
    answer["files"] = [item.filename for item in caught if "pin its commit" in str(item.message)]
    print(json.dumps(answer), flush=True)
"""


class Client:
    """The process that uses the Hub."""

    def __init__(self, server, home, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        self.home, self.log = home, home.with_suffix(".log")
        home.mkdir(exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CLIENT],
                env={
                    **kept,
                    "HF_ENDPOINT": server.url,
                    "HF_HOME": str(home),
                    "HF_HUB_DISABLE_XET": "1",
                    "HF_HUB_DISABLE_TELEMETRY": "1",
                    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                    "NO_PROXY": "127.0.0.1,localhost",
                    **environment,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=Path(__file__).parents[1],
            )

    def ask(self, name, *args, **kwargs):
        self.tell(name, *args, **kwargs)
        return self.hear()

    def tell(self, name, *args, **kwargs):
        args = [str(arg) if isinstance(arg, Path) else arg for arg in args]
        self.process.stdin.write(json.dumps([name, args, kwargs]) + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return SimpleNamespace(**json.loads(line))

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture(scope="module")
def hub_server(hub_server):
    hub_server.users = {WRITE: "user", READ: "reader", STRANGER: "stranger"}
    return hub_server


@pytest.fixture
def server(hub_server):
    """Return the server as it should be: nothing goes wrong."""
    hub_server.rules.clear()
    hub_server.seen.clear()
    return hub_server


@pytest.fixture(scope="module")
def client(hub_server, tmp_path_factory):
    client = Client(hub_server, tmp_path_factory.mktemp("client") / "home")
    yield client
    client.close()


@pytest.fixture(scope="module")
def models(two_classifiers, tmp_path_factory):
    """Return two models: their folders, their files and what they say of the clips."""
    found = []
    for clf in two_classifiers:
        folder = Path(clf.save_pretrained(tmp_path_factory.mktemp("model") / "tones"))
        files = {name: (folder / name).read_bytes() for name in FILES}
        found.append(SimpleNamespace(folder=folder, files=files, says=clf.predict_proba(CLIPS).tolist()))
    assert found[0].says != found[1].says
    return found


@pytest.fixture
def tones(models):
    return models[0]


def refused(answer, *expected):
    """Check for one clear error that names what is expected and shows no token, to the last line of its traceback."""
    assert answer.error == "HubError", answer
    for text in expected:
        assert text in answer.message
    for secret in (WRITE, READ, STRANGER, "s3cr3t"):
        assert secret not in answer.message
    for secret in (WRITE, READ, STRANGER):
        assert secret not in answer.shown


def test_what_is_pushed_is_pulled(server, client, models):
    first, second = models
    pushed = client.ask("push", first.folder, "user/tones", private=True, token=WRITE)
    repo = server.repos["user/tones"]
    commit = repo.refs["main"]
    assert pushed.value == f"{server.url}/user/tones/commit/{commit}"
    assert repo.private
    assert len(repo.commits) == 2  # the one that the Hub makes, and one with all six files
    assert {name: content for name, content in repo.commits[commit].items() if name in FILES} == first.files
    pulled = client.ask("pull", "user/tones", token=WRITE)
    assert pulled.value == first.says

    assert client.ask("push", second.folder, "user/tones", token=WRITE).value.endswith(repo.refs["main"])
    assert repo.private
    assert client.ask("pull", "user/tones", token=WRITE).value == second.says
    assert client.ask("pull", "user/tones", token=WRITE, revision=commit).value == first.says
    # Large files went both ways through the storage, which never saw a token.
    storage = [seen for seen in server.seen if server.storage.endswith(str(seen.port))]
    assert {seen.line.split()[0] for seen in storage} == {"PUT", "GET"}
    assert not any("authorization" in seen.headers for seen in storage)


def test_a_push_takes_one_model_from_a_save_that_was_not_completed(server, client, models, tmp_path, monkeypatch):
    first, second = models
    folder = Path(shutil.copytree(first.folder, tmp_path / "tones"))

    rename = os.replace

    def busy(source, target):
        if target.name == "model.safetensors":
            raise PermissionError(13, "The file is in use")
        rename(source, target)

    clf = ASTWClassifier.from_pretrained(second.folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", busy)
        with pytest.warns(UserWarning, match="is saved"):
            clf.save_pretrained(folder)
    (folder / "notes.txt").write_text("mine")
    assert (folder / "model.safetensors").read_bytes() == first.files["model.safetensors"], "not replaced yet"
    assert not client.ask("push_folder", folder, "user/unfinished", token=WRITE).error
    repo = server.repos["user/unfinished"]
    assert {name for name in repo.commits[repo.refs["main"]] if not name.startswith(".")} == set(FILES)
    assert client.ask("pull", "user/unfinished").value == second.says


def test_a_name_without_a_user_is_the_users_own(server, client, tones):
    assert client.ask("push", tones.folder, "own", token=WRITE).value.startswith(f"{server.url}/user/own/commit/")
    assert client.ask("pull", "user/own").value == tones.says


def test_pushing_the_same_again_is_no_new_commit(server, client, tones):
    address = client.ask("push", tones.folder, "user/same", token=WRITE).value
    assert client.ask("push", tones.folder, "user/same", token=WRITE).value == address
    assert len(server.repos["user/same"].commits) == 2


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (None, ("no token was sent (HTTP 401", "hf auth login", "HF_TOKEN", "may write")),
        (READ, ("the token may not write it (HTTP 403", "hf auth login")),
        ("hf_mistyped", ("the token is not accepted (HTTP 401", "expired")),
        (WRITE + "\n", ("token= is not a token",)),
    ],
)
def test_who_may_not_push(server, client, tones, token, expected):
    server.add("user/theirs", {"a": b"b"})
    refused(client.ask("push", tones.folder, "user/theirs", token=token), "Cannot push to 'user/theirs'", *expected)
    assert server.repos["user/theirs"].commits[server.repos["user/theirs"].refs["main"]] == {"a": b"b"}
    assert server.requests(" ") or "not a token" in expected[0]


def test_private_is_never_pushed_where_all_can_read(server, client, tones):
    before = server.add("user/open", {})
    answer = client.ask("push", tones.folder, "user/open", private=True, token=WRITE)
    refused(answer, "'user/open'", "private=True", "is public", "nothing was uploaded")
    assert server.repos["user/open"].refs["main"] == before
    assert not server.requests("^PUT")


@pytest.mark.parametrize(
    ("match", "how", "expected"),
    [
        ("commit/main", {"status": 500}, "error of its own (HTTP 500"),
        ("repos/create", {"status": 429, "headers": {"Retry-After": "7"}}, "Wait 7 seconds"),
        ("^PUT", {"status": 503}, "error of its own (HTTP 503"),
        ("^PUT", {"status": 200, "text": "x" * 99, "cut": 0, "reset": True}, "the connection broke off"),
        ("repos/create", {"status": 200, "text": "<html>Welcome to our WLAN"}, "is not a Hub"),
    ],
)
def test_a_push_that_fails_leaves_what_was_there(server, client, models, match, how, expected):
    server.large.clear()
    before = server.add("user/kept", models[0].files)
    rule = server.fail(match, **how)
    refused(client.ask("push", models[1].folder, "user/kept", token=WRITE), "Cannot push to 'user/kept'", expected)
    assert rule.used
    assert server.repos["user/kept"].refs["main"] == before
    server.rules.clear()
    assert client.ask("push", models[1].folder, "user/kept", token=WRITE).value
    assert client.ask("pull", "user/kept").value == models[1].says


def test_names_that_the_hub_does_not_have(client, tones):
    refused(client.ask("push", tones.folder, "user/two words", token=WRITE), "'user/two words'", "Expected 'user/name'")


def test_a_private_repository_opens_by_token_wherever_the_token_is_kept(server, client, tones, tmp_path):
    server.add("user/private", tones.files, private=True, readers={"reader"})

    def pull(**how):
        return client.ask("pull", "user/private", cache_dir=str(tmp_path / str(len(server.seen))), **how)

    refused(pull(), "'user/private'", "private and no token was sent", "hf auth login", "HF_TOKEN")
    refused(pull(token=STRANGER), "private and the token may not read it")
    refused(pull(token="hf_mistyped"), "the token is not accepted", "mistyped, revoked or expired")
    sent = len(server.seen)
    refused(pull(token=READ + "\n"), "token= is not a token")
    assert len(server.seen) == sent

    assert pull(token=READ).value == tones.says
    stored = client.home / "token"
    try:
        client.ask("environ", "HF_TOKEN", READ)
        assert pull().value == tones.says
        client.ask("environ", "HF_TOKEN", "hf_mistyped")
        refused(pull(), "the token is not accepted")
        for wrong in ("\u00e4", "\v..."):  # the HTTP library shows the second in the text of its error
            client.ask("environ", "HF_TOKEN", STRANGER + wrong)
            sent = len(server.seen)
            refused(pull(), "the token in HF_TOKEN or of 'hf auth login' is not a token")
            assert len(server.seen) == sent
        client.ask("environ", "HF_TOKEN", "")
        stored.write_text(READ)
        assert pull().value == tones.says
    finally:
        client.ask("environ", "HF_TOKEN", "")
        stored.unlink(missing_ok=True)
    refused(pull(), "no token was sent")

    # Nobody wrote a token down: not the cache, not what was pushed, not the log.
    kept = [path for top in (client.home, tmp_path) for path in top.rglob("*") if path.is_file()]
    assert len([path for path in kept if path.name == "model.safetensors"]) >= 3
    contents = [path.read_bytes() for path in [*kept, client.log]]
    contents += [
        content for repo in server.repos.values() for files in repo.commits.values() for content in files.values()
    ]
    for token in (WRITE, READ, STRANGER):
        assert not any(token.encode() in content for content in contents)


def test_a_gated_repository_tells_how_to_get_in(server, client, tones):
    server.add("user/gated", tones.files, gated=True, readers={"reader"})
    page = f"Accept its conditions at {server.url}/user/gated"
    refused(client.ask("pull", "user/gated"), "is gated, and no token was sent", page, "hf auth login")
    refused(
        client.ask("pull", "user/gated", token=STRANGER), "is gated, and the account of the token has no access", page
    )
    assert client.ask("pull", "user/gated", token=READ).value == tones.says


def test_what_is_not_there(server, client, tones):
    refused(client.ask("pull", "user/missing"), "'user/missing'", "it does not exist, or it is private")
    refused(client.ask("pull", "user/missing", token=WRITE), "it does not exist", "HTTP 404", "Check the name")
    server.add("user/there", tones.files)
    answer = client.ask("pull", "user/there", revision="v9")
    refused(answer, "'user/there' at revision 'v9'", "no revision 'v9'", "full commit hash of 40 characters")
    refused(client.ask("pull", "user/there", revision="0" * 40), "no revision '000")
    refused(client.ask("pull", "user/there", revision=server.repos["user/there"].refs["main"][:7]), "full commit hash")
    for name in FILES:
        server.add("user/partly", {n: content for n, content in tones.files.items() if n != name})
        refused(client.ask("pull", "user/partly"), "'user/partly'", f"it has no {name}", "push the model again")


def test_a_commit_pins_and_asks_nobody_once_it_is_there(server, client, models):
    first, second = models
    old = server.add("user/moving", first.files)
    server.repos["user/moving"].refs["v1"] = old
    new = server.repos["user/moving"].commit(second.files)
    assert client.ask("pull", "user/moving", revision=old).value == first.says
    assert client.ask("pull", "user/moving", revision="v1").value == first.says
    assert client.ask("pull", "user/moving").value == second.says
    assert client.ask("pull", "user/moving", revision=new).value == second.says
    server.seen.clear()
    assert client.ask("pull", "user/moving", revision=old).value == first.says
    assert not server.seen


def test_the_files_of_a_model_are_of_one_commit_whatever_is_pushed_meanwhile(server, client, models):
    server.add("user/busy", models[0].files)
    rule = server.fail("^GET .*/config.json", delay=0.5)
    client.tell("pull", "user/busy")
    for _ in range(3000):
        if rule.used:
            break
        time.sleep(0.01)
    server.repos["user/busy"].commit(models[1].files)
    # The server answers after the push: what then arrives for the first commit is repaired, or fetched again if its
    # size is wrong, so that the model is whole and that of one of the two commits.
    assert client.hear().value in (models[0].says, models[1].says)
    assert rule.used
    server.rules.clear()
    assert client.ask("pull", "user/busy").value == models[1].says


def test_a_moving_revision_is_pointed_out_once_with_the_commit_to_pin(server, client, tones):
    commit = server.add("user/warned", tones.files)
    server.repos["user/warned"].refs["v1"] = commit
    answer = client.ask("pull", "user/warned")
    assert len(answer.warnings) == 1
    assert "'user/warned'" in answer.warnings[0]
    assert f"revision={commit!r}" in answer.warnings[0]
    assert answer.files == ["<string>"]  # the line that called from_pretrained, not one of ours
    assert client.ask("pull", "user/warned").warnings == []
    assert client.ask("pull", "user/warned", revision="main").warnings == []
    assert len(client.ask("pull", "user/warned", revision="v1").warnings) == 1
    assert client.ask("pull", "user/warned", revision=commit).warnings == []
    assert client.ask("pull", tones.folder).warnings == []


def test_the_cache_serves_without_a_network(server, client, models):
    old = server.add("user/offline", models[0].files)
    server.repos["user/offline"].commit(models[1].files)
    for revision in (old, None):
        assert client.ask("pull", "user/offline", revision=revision).value
    offline = Client(server, client.home, HF_HUB_OFFLINE="1")
    try:
        server.seen.clear()
        assert offline.ask("pull", "user/offline").value == models[1].says
        assert offline.ask("pull", "user/offline", revision=old).value == models[0].says
        assert offline.ask("pull", "user/offline", revision="main").value == models[1].says
        refused(offline.ask("pull", "user/absent"), "'user/absent'", "HF_HUB_OFFLINE is set", "not", "Unset it")
        refused(offline.ask("pull", "user/offline", revision="v1"), "at revision 'v1'", "HF_HUB_OFFLINE is set")
        refused(offline.ask("push", models[0].folder, "user/offline", token=WRITE), "HF_HUB_OFFLINE is set. Unset it")
        assert not server.seen
    finally:
        offline.close()


def test_the_cache_serves_when_the_network_has_gone(server, client, tones):
    server.add("user/far", tones.files)
    assert client.ask("pull", "user/far").value == tones.says
    server.stop()
    try:
        assert client.ask("pull", "user/far").value == tones.says
        answer = client.ask("pull", "user/farther")
        refused(answer, "'user/farther'", f"{server.url} cannot be reached", "Check the network")
        refused(client.ask("push", tones.folder, "user/far", token=WRITE), f"{server.url} cannot be reached")
    finally:
        server.start()
    assert client.ask("pull", "user/far").value == tones.says


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_the_cache_serves_when_the_hub_refuses(server, client, tones, tmp_path, status):
    server.repos.get("user/kind") or server.add("user/kind", tones.files)
    assert client.ask("pull", "user/kind").value == tones.says
    rule = server.fail("^HEAD", status=status)
    assert client.ask("pull", "user/kind").value == tones.says
    assert rule.used


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {}, ("HTTP 401", "it does not exist, or it is private", "hf auth login")),
        (403, {}, ("HTTP 403", "access is refused", "hf auth login")),
        (404, {}, ("HTTP 404", "it does not exist", "Check the name")),
        (429, {}, ("HTTP 429", "too many requests", "Wait some minutes")),
        (429, {"Retry-After": "30"}, ("HTTP 429", "Wait 30 seconds")),
        (500, {}, ("HTTP 500", "error of its own", "Try again later")),
        (503, {}, ("HTTP 503", "error of its own", "Try again later")),
        (418, {}, ("HTTP 418", "the Hub refused")),
    ],
)
def test_every_status_is_one_clear_error(server, client, tones, tmp_path, status, headers, expected):
    server.repos.get("user/failing") or server.add("user/failing", tones.files)
    rule = server.fail("^HEAD", status=status, headers=headers)
    answer = client.ask("pull", "user/failing", cache_dir=str(tmp_path))
    refused(answer, "Cannot fetch 'user/failing' from the Hugging Face Hub", *expected)
    assert rule.used
    server.rules.clear()
    assert client.ask("pull", "user/failing", cache_dir=str(tmp_path)).value == tones.says


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, "the storage server of the Hub refuses"),
        (404, "the storage server"),
        (429, "too many requests"),
        (500, "error of its own"),
    ],
)
def test_a_storage_that_fails_is_told_from_a_repository_that_is_missing(
    server, client, tones, tmp_path, status, expected
):
    server.repos.get("user/stored") or server.add("user/stored", tones.files)
    server.fail("^GET /large/", status=status)
    answer = client.ask("pull", "user/stored", cache_dir=str(tmp_path), token=READ)
    refused(answer, f"HTTP {status}", expected)
    assert "does not exist" not in answer.message
    server.rules.clear()
    assert client.ask("pull", "user/stored", cache_dir=str(tmp_path)).value == tones.says


def test_a_page_of_somebody_else_is_not_taken_for_the_hub(server, client):
    server.fail("", status=200, text="<html>Welcome to our WLAN")
    refused(client.ask("pull", "user/anything"), "'user/anything'", "is not a Hub", "HF_ENDPOINT")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("file", ["^GET /large/", "^GET .*/labels.json"])
def test_a_transfer_that_breaks_off_once_is_taken_up_again(server, client, tones, tmp_path, reset, file):
    server.add("user/broken", tones.files)
    rule = server.fail(file, cut=0.6, reset=reset, times=1)
    answer = client.ask("pull", "user/broken", cache_dir=str(tmp_path))
    assert rule.used
    assert answer.value == tones.says, answer
    assert len(server.requests(file)) == 2
    if not reset and "large" in file:  # what arrived is not asked for again
        assert server.requests(file)[1].headers["range"].startswith("bytes=")


@pytest.mark.parametrize("reset", [False, True])
def test_a_transfer_that_always_breaks_off_is_one_clear_error(server, client, tones, tmp_path, reset):
    server.repos.get("user/torn") or server.add("user/torn", tones.files)
    server.fail("^GET /large/", cut=0.1, reset=reset)
    answer = client.ask("pull", "user/torn", cache_dir=str(tmp_path))
    refused(answer, "'user/torn'", "the connection broke off", "Try again")
    assert not list(tmp_path.rglob("model.safetensors"))  # no half file is taken for a whole one
    server.rules.clear()
    server.seen.clear()
    assert client.ask("pull", "user/torn", cache_dir=str(tmp_path)).value == tones.says
    assert not server.requests("^GET .*/config.json")  # that had arrived


@pytest.mark.parametrize("name", FILES[:5])
def test_wrong_bytes_of_the_right_size_are_fetched_once_more(server, client, tones, tmp_path, name):
    server.repos.get("user/flipped") or server.add("user/flipped", tones.files)
    address = "^GET /large/" if name == "model.safetensors" else f"^GET .*/{name}"
    rule = server.fail(address, flip=True, times=1)
    answer = client.ask("pull", "user/flipped", cache_dir=str(tmp_path))
    assert answer.value == tones.says, answer
    assert rule.used == 1
    assert len(server.requests("^GET")) == len(FILES) + 1  # and only that file
    server.seen.clear()
    assert client.ask("pull", "user/flipped", cache_dir=str(tmp_path)).value == tones.says
    assert not server.requests("^GET")


def test_wrong_bytes_that_stay_wrong_are_one_clear_error_and_leave_no_trap(server, client, tones, tmp_path):
    commit = server.add("user/spoilt", tones.files)
    rule = server.fail("^GET /large/", flip=True)
    answer = client.ask("pull", "user/spoilt", cache_dir=str(tmp_path))
    refused(
        answer, "'user/spoilt'", commit, "model.safetensors arrived with wrong bytes, twice", str(tmp_path), "again"
    )
    assert rule.used == 2
    server.rules.clear()
    assert client.ask("pull", "user/spoilt", cache_dir=str(tmp_path)).value == tones.says


def test_a_damaged_cache_is_repaired_once_the_hub_can_be_asked(server, client, tones, tmp_path):
    server.add("user/worn", tones.files)
    assert client.ask("pull", "user/worn", cache_dir=str(tmp_path)).value == tones.says
    (weights,) = tmp_path.rglob("snapshots/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    server.stop()
    try:
        answer = client.ask("pull", "user/worn", cache_dir=str(tmp_path))
    finally:
        server.start()
    assert answer.error == "ArtifactError"
    for text in (
        "model.safetensors",
        "SHA-256",
        "is a download of 'user/worn'",
        "downloads damaged files again",
        "cannot be reached",
    ):
        assert text in answer.message
    assert client.ask("pull", "user/worn", cache_dir=str(tmp_path)).value == tones.says


def test_training_starts_from_a_model_of_the_hub_and_repairs_its_download(server, client, tones):
    server.add("user/start", tones.files)
    rule = server.fail("^GET /large/", flip=True, times=1)
    answer = client.ask("start_from", "user/start")
    assert rule.used == 1
    assert not answer.error, answer
    np.testing.assert_allclose(answer.value, tones.says, atol=1e-5)


@pytest.mark.parametrize("pull", ["pull", "pull_as_regressor"])
def test_what_is_wrong_on_the_hub_is_not_fetched_twice(server, client, tones, tmp_path, pull):
    """Somebody edited a file there, or it is a model of another kind: the download is as it should be."""
    changes = {"labels.json": tones.files["labels.json"] + b" "} if pull == "pull" else {}
    server.add("user/edited", {**tones.files, **changes})
    answer = client.ask(pull, "user/edited", cache_dir=str(tmp_path))
    assert answer.error == "ArtifactError"
    assert ("labels.json" if pull == "pull" else "ASTWRegressor") in answer.message
    assert len(server.requests("^GET")) == len(FILES)


@pytest.mark.parametrize("match", ["^HEAD", "^GET /large/"])
def test_a_hub_that_is_too_slow_is_one_clear_error(server, client, tones, tmp_path, match):
    server.repos.get("user/slow") or server.add("user/slow", tones.files)
    rule = server.fail(match, delay=0.6)
    client.ask("wait", 0.3)
    try:
        answer = client.ask("pull", "user/slow", cache_dir=str(tmp_path))
        refused(answer, "'user/slow'", "did not answer in time", "Try again", "HF_HUB_DOWNLOAD_TIMEOUT")
        assert rule.used
        server.rules.clear()
        assert client.ask("pull", "user/slow", cache_dir=str(tmp_path)).value == tones.says
        server.fail("^HEAD", delay=0.6)
        assert client.ask("pull", "user/slow", cache_dir=str(tmp_path)).value == tones.says  # from the cache
    finally:
        client.ask("wait", 10)


def test_a_cache_that_cannot_be_written_says_so(server, client, tones, tmp_path):
    server.add("user/nowhere", tones.files)
    (tmp_path / "file").write_text("")
    refused(client.ask("pull", "user/nowhere", cache_dir=str(tmp_path / "file")), "'user/nowhere'", "cache_dir=")


def test_a_folder_of_the_users_name_asks_the_hub_only_with_a_revision(server, client, tones):
    server.add("tests/tones", tones.files)  # a folder of this name is in the working folder
    answer = client.ask("pull", "tests/tones")
    assert answer.error == "ArtifactError"
    assert "There is no model folder 'tests/tones'" in answer.message
    assert not server.seen
    assert client.ask("pull", "tests/tones", revision="main").value == tones.says


def test_a_local_folder_is_not_asked_about(tones):
    assert hub.fetch(tones.folder, FETCHED) == tones.folder
    assert not hub.repair(tones.folder, tones.folder, FETCHED, because=ArtifactError("damaged"))
