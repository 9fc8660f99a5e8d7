"""The demo page: it shows what the library predicts, and stands what strangers send."""

import asyncio
import base64
import contextlib
import hashlib
import html
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import numpy as np
import pytest
import soundfile
from sklearn.exceptions import NotFittedError
from starlette.testclient import TestClient

from helpers import encode, tone_sequence
from skastw import ASTWClassifier, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import ParallelCNNEncoder
from skastw.errors import MissingDependencyError
from skastw.features import LogMel
from skastw.serving import create_app, parse_size, serve
from skastw.serving.listener import Listener, spectrogram_picture
from skastw.serving.server import new_server

RATE = 8000
TINY = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)
NAMES = np.array(["<img src=x onerror=alert(1)>", "mitte öäü 中", "end"])
PAGE = "http://localhost:7860"
MODELS = Path(__file__).parent / "data" / "models" / "version_2"


@pytest.fixture(scope="module")
def clf():
    clips, y = make_tones(n_clips=48, n_classes=3, sample_rate=RATE, random_state=0)
    params = {"encoder": TINY, "epochs": 25, "muon_lr": 0.03, "sample_rate": RATE, "val_split": None}
    return ASTWClassifier(**params).fit(clips, NAMES[y])


@pytest.fixture(scope="module")
def client(clf):
    with TestClient(create_app(clf, title="Tones", window=0.5), base_url=PAGE) as client:
        yield client


def encoded(samples, form="wav", rate=RATE):
    return encode(samples, rate, form)


# ------------------------------------------------------------------ what is shown


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_the_page_shows_what_the_library_predicts(client, clf, form):
    content = encoded(tone_sequence(0, 1, 2, 1), form)
    answer = client.post("/api/predict", content=content)
    assert answer.status_code == 200
    found = answer.json()
    (top,) = clf.predict_top_k([{"bytes": content}], k=5)
    assert [row["label"] for row in found["top"]] == [label for label, _ in top]
    np.testing.assert_allclose([row["probability"] for row in found["top"]], [p for _, p in top], atol=1e-6)

    table = clf.predict_windows([{"bytes": content}], window=0.5, hop=0.25)
    windows = found["windows"]
    np.testing.assert_allclose(windows["starts"], table["start"])
    np.testing.assert_allclose(windows["ends"], table["end"])
    assert windows["ends"][-1] == pytest.approx(found["seconds"])
    for row in windows["rows"]:
        column = "end (label)" if row["label"] == "end" else row["label"]
        np.testing.assert_allclose(row["probabilities"], table[column], atol=1e-4)
    heard = [best["label"] for best in windows["best"]]
    assert [heard[i] for i in (0, 4, 8, 12)] == NAMES[[0, 1, 2, 1]].tolist()


def test_the_model_is_introduced(client):
    about = client.get("/api/model").json()
    assert about["title"] == "Tones"
    assert (about["classes"], about["multilabel"], about["sample_rate"]) == (3, False, RATE)
    assert (about["max_upload"], about["max_seconds"]) == (50_000_000, 600)


def test_the_page_has_its_title_and_facts_as_text_only(clf):
    with TestClient(create_app(clf, title="</h1><script>'\""), base_url=PAGE) as client:
        page, about = client.get("/").text, client.get("/api/model").json()
    assert "<h1>&lt;/h1&gt;&lt;script&gt;&#39;&#34;</h1>" in page
    assert "<title>&lt;/h1&gt;&lt;script&gt;&#39;&#34;: skastw demo</title>" in page
    assert page.count("<script") == page.count("</script") == page.count("<h1") == 1
    assert "Encoder parallel_cnn, 3 classes, clips at 8 kHz" in page
    (values,) = re.findall("<body class=\"fresh\" data-model='([^']*)'>", page)
    assert json.loads(html.unescape(values)) == about


def test_labels_of_a_multilabel_model_are_independent():
    classifier = ASTWClassifier.from_pretrained(MODELS / "multilabel", device="cpu")
    with TestClient(create_app(classifier), base_url=PAGE) as client:
        assert client.get("/api/model").json()["multilabel"] is True
        found = client.post("/api/predict", content=encoded(tone_sequence(0))).json()
    (expected,) = classifier.predict_proba([(tone_sequence(0), RATE)])
    shown = {row["label"]: row["probability"] for row in found["top"]}
    assert len(shown) == min(5, len(expected))
    for label, probability in zip(classifier.classes_.tolist(), expected, strict=True):
        assert shown.get(str(label), probability) == pytest.approx(probability, abs=1e-3)  # the file has 16 bits


@pytest.mark.parametrize("hz", [300, 1000, 3000])
def test_a_tone_is_bright_at_its_frequency(hz):
    tone = (0.5 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)).astype(np.float32)
    picture = spectrogram_picture(tone, LogMel(), RATE)
    levels = np.frombuffer(base64.b64decode(picture["levels"]), np.uint8).reshape(picture["rows"], picture["columns"])
    band = picture["rows"] - 1 - levels[:, 25].argmax()  # the highest band comes first
    frequencies = np.array(picture["frequencies"])
    assert (np.diff(frequencies) > 0).all()
    assert band == np.abs(frequencies - hz).argmin()
    assert levels.max() == 255


def test_the_picture_has_a_bounded_size_and_loses_no_click():
    clip = np.zeros(100 * RATE, dtype=np.float32)
    clip[70 * RATE] = 0.5
    picture = spectrogram_picture(clip, LogMel(), RATE)
    levels = np.frombuffer(base64.b64decode(picture["levels"]), np.uint8).reshape(picture["rows"], picture["columns"])
    assert picture["columns"] == 512
    assert levels.max(axis=0).argmax() in (358, 359)  # 70 % along
    assert (levels.max(axis=0) > 200).sum() <= 3


def test_silence_is_dark():
    picture = spectrogram_picture(np.zeros(RATE, dtype=np.float32), LogMel(), RATE)
    assert max(base64.b64decode(picture["levels"])) < 150


@pytest.mark.parametrize("window", [None, 0.01, 0.5, 1000.0])
@pytest.mark.parametrize("seconds", [0.001, 0.3, 60.0])
def test_windows_are_few_and_cover_the_clip(clf, window, seconds):
    clip = tone_sequence(0, seconds=seconds)
    windows = Listener.of(clf, top_k=2, window=window).windows(clip)
    assert 1 <= len(windows["starts"]) <= 400
    assert windows["starts"][0] == 0
    assert windows["ends"][-1] == pytest.approx(len(clip) / RATE)
    assert windows["size"] == pytest.approx(windows["ends"][0])
    assert len(windows["rows"]) == 2
    assert {len(row["probabilities"]) for row in windows["rows"]} == {len(windows["starts"])}


def test_any_front_end_has_a_picture(clf):
    clips, y = make_tones(n_clips=8, n_classes=2, sample_rate=RATE, random_state=0)
    params = {"encoder": TINY, "epochs": 1, "sample_rate": RATE, "val_split": None}
    for features in ("mfcc", "pcen", LogMel(n_mels=20)):
        found = Listener.of(ASTWClassifier(features=features, **params).fit(clips, y), top_k=9).hear(clips[0])
        assert found["spectrogram"]["rows"] == (20 if isinstance(features, LogMel) else 80)
        assert sorted(row["label"] for row in found["top"]) == ["0", "1"]


def test_models_that_have_no_classes_to_show_are_refused(clf):
    with pytest.raises(TypeError, match="type ASTWRegressor, expected a fitted ASTWClassifier"):
        create_app(ASTWRegressor.from_pretrained(MODELS / "regressor"))
    with pytest.raises(NotFittedError):
        create_app(ASTWClassifier())
    frames = [np.zeros((20, 8), dtype=np.float32) + i for i in range(4)]
    network = ASTWClassifier(features="precomputed", encoder=TINY, epochs=1, val_split=None).fit(frames, [0, 1, 0, 1])
    with pytest.raises(TypeError, match="expected a classifier with a front end"):
        create_app(network)


@pytest.mark.parametrize(
    "params",
    [
        *({"top_k": 0}, {"top_k": 1.5}, {"window": 0.0}, {"window": float("nan")}, {"max_upload": 0}),
        *({"host": "*"}, {"host": "*.example"}),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_errors(clf, params):
    (name,) = params
    with pytest.raises(ValueError, match=f"Got {name}="):
        create_app(clf, **params)


# ------------------------------------------------------------------ clips that cannot be used


def test_clips_that_cannot_be_used_are_one_line(client):
    whole = encoded(tone_sequence(0))
    nan = io.BytesIO()
    soundfile.write(nan, np.full(100, np.nan), RATE, format="wav", subtype="FLOAT")
    cases = {
        "empty": b"",
        "cannot be decoded": b"not audio at all",
        "is truncated": whole[: len(whole) // 2],
        "no samples": encoded(np.zeros(0)),
        "NaN": nan.getvalue(),
        "announces 660.0 s of audio": encoded(np.zeros(660 * RATE, dtype=np.int16), "flac"),
        "rate": encoded(tone_sequence(0)[:100], rate=1)[:24]
        + b"\xff\xff\xff\x7f"
        + encoded(tone_sequence(0)[:100])[28:],
    }
    for reason, content in cases.items():
        answer = client.post("/api/predict", content=content)
        assert answer.status_code == 422, reason
        assert list(answer.json()) == ["error"]
        assert reason in answer.json()["error"]
        assert "\n" not in answer.json()["error"]
    assert client.post("/api/predict", content=whole).status_code == 200


def test_clips_are_decoded_in_a_process_of_their_own(client, monkeypatch):
    def decode(*arguments, **settings):
        raise AssertionError("in this process")

    for module in ("decode", "isolation"):
        monkeypatch.setattr(sys.modules[f"skastw.audio.{module}"], "decode", decode)
    assert client.post("/api/predict", content=encoded(tone_sequence(0))).status_code == 200


def test_a_failure_of_ours_is_told_without_details(clf, monkeypatch):
    def fail(self, waveform):
        raise RuntimeError("secret of /home/someone")

    app = create_app(clf)
    with TestClient(app, base_url=PAGE, raise_server_exceptions=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Listener, "hear", fail)
            answer = client.post("/api/predict", content=encoded(tone_sequence(0)))
        assert answer.status_code == 500
        assert answer.json() == {"error": "The server failed; the details are in its log."}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.post("/api/predict", content=encoded(tone_sequence(0))).status_code == 200


# ------------------------------------------------------------------ limits


def call(app, messages, headers=()):
    """Send a request as the messages that a server hands on; return the status."""
    return asyncio.run(answered(app, messages, headers))


async def answered(app, messages, headers=()):
    """Send a request as the messages that a server hands on; return the status."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/api/predict",
        "raw_path": b"/api/predict",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
    }
    status = []

    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])

    async def receive():
        return await anext(messages)

    await app(scope, receive, send)
    return status[0]


@pytest.mark.parametrize("headers", [(), [(b"content-length", b"10")], [(b"content-length", "²".encode("latin-1"))]])
def test_no_more_than_the_limit_is_read_whatever_is_announced(clf, headers):
    n_read = 0

    async def endless():
        nonlocal n_read
        while True:
            n_read += 1000
            assert n_read < 1_000_000
            yield {"type": "http.request", "body": bytes(1000), "more_body": True}

    assert call(create_app(clf, max_upload=100_000), endless(), headers) == 413
    assert n_read <= 101_000


@pytest.mark.parametrize("length", [b"100001", b"9" * 5000])
def test_a_clip_that_announces_too_much_is_not_read(clf, length):
    async def nothing():
        raise AssertionError("read")
        yield

    assert call(create_app(clf, max_upload=100_000), nothing(), [(b"content-length", length)]) == 413


def test_the_limit_itself_is_allowed(clf):
    content = encoded(tone_sequence(0))
    with TestClient(create_app(clf, max_upload=len(content)), base_url=PAGE) as client:
        assert client.post("/api/predict", content=content).status_code == 200
        answer = client.post("/api/predict", content=content + b"x")
        assert answer.status_code == 413
        assert "larger than 0.016" in answer.json()["error"]


def test_a_clip_that_does_not_arrive_is_given_up(clf):
    async def stuck():
        yield {"type": "http.request", "body": b"RIFF", "more_body": True}
        await asyncio.Event().wait()

    assert call(create_app(clf, upload_time=0.05), stuck()) == 408


def test_a_clip_that_stops_arriving_is_given_up(clf):
    async def stuck():
        yield {"type": "http.request", "body": b"RIFF", "more_body": True}
        await asyncio.Event().wait()

    assert call(create_app(clf, stall_time=0.05), stuck()) == 408


def test_uploads_take_bounded_memory_together(clf):
    app = create_app(clf, max_upload=1000)

    async def upload(begun, go_on, size):
        async def pieces():
            yield {"type": "http.request", "body": bytes(size), "more_body": True}
            begun.set()
            await go_on.wait()
            yield {"type": "http.disconnect"}

        return await answered(app, pieces())

    async def crowd():
        go_on = asyncio.Event()
        tasks = []
        for _ in range(4):
            begun = asyncio.Event()
            tasks.append(asyncio.create_task(upload(begun, go_on, 1000)))
            await begun.wait()
        refused = await upload(asyncio.Event(), go_on, 1)
        go_on.set()
        return refused, await asyncio.gather(*tasks), await upload(asyncio.Event(), go_on, 1)

    assert asyncio.run(crowd()) == (503, [400] * 4, 400)  # and afterwards there is room again


def test_a_sender_that_goes_away_is_no_failure(clf):
    async def gone():
        yield {"type": "http.request", "body": b"RIFF", "more_body": True}
        yield {"type": "http.disconnect"}

    assert call(create_app(clf), gone()) == 400


def test_one_clip_is_predicted_at_a_time_and_few_wait(clf, monkeypatch):
    go_on, meeting, met = threading.Event(), threading.Barrier(2), False

    def hear(self, waveform):
        nonlocal met
        try:
            meeting.wait(1)  # for another one that is predicted meanwhile
            met = True
        except threading.BrokenBarrierError:
            go_on.wait()
        return {}

    monkeypatch.setattr(Listener, "hear", hear)
    app = create_app(clf)

    async def burst():
        transport = httpx2.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PAGE) as client:
            content = encoded(tone_sequence(0))
            requests = [asyncio.create_task(client.post("/api/predict", content=content)) for _ in range(10)]
            refused = set()
            while len(refused) < 6:  # those that need not wait for the event
                done, _ = await asyncio.wait(set(requests) - refused, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            go_on.set()
            answers = [await request for request in requests]
            later = await client.post("/api/predict", content=content)
            return [answer.status_code for answer in answers], answers, later.status_code

    codes, answers, later = asyncio.run(burst())
    assert sorted(codes) == [200] * 4 + [503] * 6
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    assert (met, later) == (False, 200)


# ------------------------------------------------------------------ who may ask


def test_the_page_runs_its_own_script_only(client):
    answer = client.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in str(policy)
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, flags=re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy[f"{tag}-src"]
    assert set(re.findall(r"https?://[^'\"\s]+", answer.text)) == {
        "http://www.w3.org/2000/svg"
    }  # the icon's name space
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", answer.text)


@pytest.mark.parametrize("path", ["/", "/api/model", "/nowhere", "/api/predict"])
def test_every_answer_has_the_headers_that_protect_it(client, path):
    answer = client.get(path)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example:7860", "192.168.1.7:7860", "", "[", "::1]", "evil.example@127.0.0.1"],
)
@pytest.mark.parametrize("path", ["/", "/api/model"])
def test_requests_for_a_foreign_name_are_refused(client, host, path):
    answer = client.get(path, headers={"host": host})
    assert answer.status_code == 421
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:7860", "127.8.0.1", "[::1]:7860", "[0:0::1]"])
def test_the_names_of_this_machine_are_its_own(client, host):
    assert client.get("/api/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("name", "host", "trusted"),
    [
        ("10.0.0.7:7860", "10.0.0.7", True),
        ("10.0.0.8:7860", "10.0.0.7", False),
        ("Box.lan", "box.lan", True),
        ("box.lan:80", "Box.lan", True),
        ("www.box.lan", "box.lan", False),
        ("box.lan", "www.box.lan", False),
        ("[fe80:0::1]", "fe80::1", True),
        ("10.0.0.8", "0.0.0.0", True),
        ("[fe80::1]:7860", "::", True),
        ("evil.example", "0.0.0.0", False),
        (socket.gethostname(), "0.0.0.0", True),
        (f"{socket.gethostname().upper()}.local:80", "", True),
        (f"{socket.gethostname()}.evil.example", "0.0.0.0", False),
    ],
)
def test_another_address_brings_its_own_name(clf, name, host, trusted):
    with TestClient(create_app(clf, host=host), base_url=PAGE) as client:
        assert client.get("/api/model", headers={"host": name}).status_code == (200 if trusted else 421)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (PAGE, 200),
        (None, 200),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost:1234", 403),
        ("http://localhost:7860.evil.example", 403),
    ],
)
def test_other_sites_cannot_send_clips(client, origin, status):
    headers = {} if origin is None else {"origin": origin}
    assert client.post("/api/predict", content=encoded(tone_sequence(0)), headers=headers).status_code == status


def test_other_sites_get_no_permission_in_advance(client):
    answer = client.options("/api/predict", headers={"origin": "https://evil.example"})
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


# ------------------------------------------------------------------ over the network


@contextlib.contextmanager
def serving(app, **settings):
    """Yield the port of a server in a thread."""
    server = new_server(app, **settings)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def port(clf):
    """Return the port of a server in a thread."""
    with serving(create_app(clf, upload_time=0.2)) as port:
        yield port


def exchange(port, data, *, hang_up=False):
    """Send bytes and return what comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        if hang_up:
            return b""
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_requests_that_lie_do_not_disturb_the_next(port):
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
    assert b" 408 " in exchange(port, head + b"Content-Length: 1000\r\n\r\nRIFF")  # and nothing follows
    assert b" 413 " in exchange(port, head + b"Content-Length: 99999999999\r\n\r\n")
    assert b" 400 " in exchange(port, head + b"Content-Length: -1\r\n\r\nRIFF")
    assert b" 408 " in exchange(port, head + b"Transfer-Encoding: chunked\r\n\r\n4\r\nRIFF\r\n")
    exchange(port, head + b"Content-Length: 1000\r\n\r\nRIFF", hang_up=True)
    content = encoded(tone_sequence(0))
    answer = httpx2.post(f"http://127.0.0.1:{port}/api/predict", content=content)
    assert answer.status_code == 200
    assert "server" not in answer.headers


def rest(connection):
    """Return what comes until the server closes a connection, which it does within a minute."""
    connection.settimeout(60)
    answer = b""
    with contextlib.suppress(ConnectionResetError):  # bytes that the server did not read were in its buffer
        while piece := connection.recv(65536):
            answer += piece
    return answer


HEAD = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /api/model HTTP/1.1\r\nHost: localhost\r\n"
STALLED = {
    "nothing": b"",
    "a head that does not end": GET + b"X: ",
    "a body that does not come": HEAD + b"Content-Length: 1000\r\n\r\n",
    "a body that stops": HEAD + b"Content-Length: 1000\r\n\r\nRIFF",
    "nothing after an answer": GET + b"\r\n",
    "a head that begins after an answer": GET + b"\r\nG",
    "a body that nobody asked for": GET + b"Content-Length: 1000\r\n\r\nx",
}


@pytest.mark.parametrize("kind", STALLED)
def test_an_honest_request_is_answered_while_many_others_stall(clf, kind):
    content = encoded(tone_sequence(0))
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(serving(create_app(clf, stall_time=0.5), idle_time=0.5))
        stalled = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        for connection in stalled:
            with contextlib.suppress(OSError):  # the server may have closed it for a newer one
                connection.sendall(STALLED[kind])
        assert httpx2.get(f"http://127.0.0.1:{port}/").status_code == 200
        assert httpx2.post(f"http://127.0.0.1:{port}/api/predict", content=content).status_code == 200
        for connection in stalled:
            rest(connection)


def test_a_head_in_pieces_does_not_last_longer_than_one_that_stops(clf):
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(serving(create_app(clf), idle_time=0.3))
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        slow.settimeout(0.05)
        slow.sendall(GET + b"X: ")
        for _ in range(1000):
            try:
                slow.sendall(b"x")
                if not slow.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            raise AssertionError("never closed")


def test_a_client_that_does_not_read_is_closed(clf):
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(serving(create_app(clf), idle_time=0.3))
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stack.enter_context(deaf)
        deaf.connect(("127.0.0.1", port))
        deaf.settimeout(60)
        many = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200_000  # more than the buffers hold
        with pytest.raises(ConnectionError):
            deaf.sendall(many)


def test_a_clip_may_take_longer_than_an_idle_connection(clf):
    content = encoded(tone_sequence(0))

    async def slow():
        for piece in (content[:100], content[100:200], content[200:]):
            await asyncio.sleep(0.15)
            yield piece

    async def post(port):
        async with httpx2.AsyncClient() as client:
            return await client.post(f"http://127.0.0.1:{port}/api/predict", content=slow())

    with serving(create_app(clf), idle_time=0.2) as port:
        assert asyncio.run(post(port)).status_code == 200


def test_a_port_that_is_taken_is_told(clf):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"Cannot serve at 127\.0\.0\.1, port {number} .*give another --port"):
            serve(clf, port=number, open_browser=False)


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_an_address_for_everybody_is_warned_of(clf, monkeypatch, capsys, host, warns):
    opened = threading.Event()
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: opened.wait(10))
    monkeypatch.setattr("webbrowser.open", lambda url: opened.set())
    serve(clf, host=host, port=0)
    assert opened.is_set()
    told = capsys.readouterr().err
    assert ("warning: everybody who can reach this machine" in told) is warns
    assert re.search(rf"at http://{'localhost' if warns else re.escape(host)}:\d+/ until Ctrl-C", told)


def test_sizes_are_written_for_people():
    assert [parse_size(text) for text in ("50MB", "1 kib", "2.5GB", "123")] == [50_000_000, 1024, 2_500_000_000, 123]
    for text in ("", "MB", "-1MB", "1e3", "5 apples", "nan"):
        with pytest.raises(ValueError, match="expected one such as '50MB'"):
            parse_size(text)


def test_the_extra_is_named_where_it_is_missing(clf, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(MissingDependencyError, match=r"skastw\[demo\]"):
        create_app(clf)


# ------------------------------------------------------------------ the command, and the page in a browser


@pytest.fixture
def command(clf, tmp_path):
    """Return what runs the command on a folder and returns the address that it prints."""
    folder = clf.save_pretrained(tmp_path / "tones")
    started = []

    def start(*arguments):
        arguments = ["demo", "--model", folder, "--port", "0", "--no-browser", *arguments]
        process = subprocess.Popen([sys.executable, "-m", "skastw", *arguments], stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process, re.search(r"http://\S+", process.stderr.readline())[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another signal on Windows")
def test_the_command_serves_until_it_is_interrupted(command):
    process, address = command("--top-k", "2", "--max-upload", "100kB")
    about = httpx2.get(f"{address}api/model").json()
    assert (about["title"], about["max_upload"]) == ("tones", 100_000)
    found = httpx2.post(f"{address}api/predict", content=encoded(tone_sequence(1))).json()
    assert found["top"][0]["label"] == NAMES[1]
    assert len(found["top"]) == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stderr.read() == ""


def chromium():
    """Return a Chromium of this machine, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra dev brings")
    if chromium() is None:
        pytest.skip("needs Chromium or Chrome on the path")
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # it beeps
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox", *microphone])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, command):
    """Return what opens the page; afterwards nothing was asked of any other machine, and no script was refused."""
    pages = []

    def opened(*arguments, **settings):
        _, address = command(*arguments)
        page = browser.new_page(**settings)
        page.complaints, page.asked = [], []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#choose:enabled")
        pages.append((page, address))
        return page

    yield opened
    for page, address in pages:
        foreign = [url for url in page.asked if not url.startswith((address, f"blob:{address}", "data:"))]
        complaints = [text for text in page.complaints if "status of 4" not in text]  # the browser logs refusals
        page.close()
        assert (foreign, complaints) == ([], [])


def drop(page, name, content):
    """Drop a file on the page, as a person does."""
    script = """([name, content]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
        for (const type of ["dragenter", "dragover", "drop"])
            document.querySelector("main").dispatchEvent(
                new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(script, [name, base64.b64encode(content).decode()])


def wait_until(page, expression):
    """Wait until an expression is true; playwright's own way to do so needs a policy that allows eval."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def texts(page, selector):
    return [text.strip() for text in page.locator(selector).all_text_contents()]


def is_painted(page, selector):
    """Say whether a canvas has more than one colour."""
    script = """(canvas) => new Set(new Uint32Array(
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
    return page.locator(selector).first.evaluate(script) > 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_dropped_clip_is_shown(open_page, clf, width):
    page = open_page(viewport={"width": width, "height": 800})
    assert page.locator("h1").inner_text() == "tones"
    assert page.locator("#results").is_hidden()
    content = encoded(tone_sequence(0, 0, 1), "flac")
    drop(page, "<b>three</b> tones.flac", content)
    page.wait_for_selector("#bars li")
    ((first, *others),) = clf.predict_top_k([{"bytes": content}], k=5)
    assert texts(page, "#bars .label") == [first[0], *(label for label, _ in others)]
    assert texts(page, "#bars .share")[0] == f"{100 * first[1]:.1f} %"
    box = page.locator("#bars .bar").first.bounding_box()
    filled = page.locator("#bars .bar > div").first.bounding_box()
    assert filled["width"] == pytest.approx(box["width"] * first[1], abs=1.5)
    assert page.locator("#clip-note").inner_text().startswith("<b>three</b> tones.flac, 3.00 s")
    assert page.locator("#news").inner_text().startswith(f"Most probable: {first[0]}")
    assert is_painted(page, "#spectrogram")
    assert is_painted(page, "#strips canvas")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wait_until(page, "document.getElementById('player').duration > 2.9")  # it can be played

    track = page.locator("#track").bounding_box()  # what is heard where the pointer is
    for share, label in ((0.1, NAMES[0]), (0.9, NAMES[1])):
        page.mouse.move(track["x"] + share * track["width"], track["y"] + 20)
        shown = dict(zip(texts(page, "#strips .label"), texts(page, "#strips .share"), strict=True))
        assert float(shown[label].strip("<> %")) > 50


@pytest.mark.slow
def test_what_is_recorded_is_predicted(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "record"
    page.keyboard.press("Enter")
    page.wait_for_selector("#finish:visible")
    wait_until(page, "parseFloat(document.querySelector('.level').getAttribute('aria-valuenow')) > -30")
    wait_until(page, "recorder && recorder.n > 1.5 * recorder.context.sampleRate")
    with page.expect_request("**/api/predict") as sent:
        page.keyboard.press("Enter")  # the button that stops has the focus
    samples, rate = soundfile.read(io.BytesIO(sent.value.post_data_buffer))
    assert samples.ndim == 1
    assert len(samples) >= 1.5 * rate
    assert np.abs(samples).max() > 0.1, "the beeps of the fake microphone"
    page.wait_for_selector("#bars li")
    assert page.locator("#clip-note").inner_text().startswith("Recording, ")
    assert page.evaluate("document.activeElement.id") == "record"

    page.locator("#record").click()
    page.locator("#cancel").click()
    assert page.locator("#record").is_visible()
    assert sum(url.endswith("/api/predict") for url in page.asked) == 1


@pytest.mark.slow
def test_a_recording_ends_before_it_is_too_large(open_page):
    page = open_page("--max-upload", "90kB")
    with page.expect_request("**/api/predict") as sent:
        page.locator("#record").click()
    assert 80_000 < len(sent.value.post_data_buffer) <= 90_000
    page.wait_for_selector("#bars li")


@pytest.mark.slow
def test_what_goes_wrong_is_told_and_the_next_clip_works(open_page, command):
    page = open_page("--max-upload", "90kB")
    alert = page.locator("[role=alert]")
    drop(page, "letter.txt", b"not audio at all")
    page.wait_for_selector("#problem:visible")
    assert "letter.txt: cannot be decoded" in alert.inner_text()
    drop(page, "long.wav", bytes(100_000))
    wait_until(page, "document.getElementById('problem').textContent.includes('long.wav')")
    assert "long.wav has 100 kB, and this page takes 90 kB." in alert.inner_text()
    assert sum(url.endswith("/api/predict") for url in page.asked) == 1  # what is too large was not sent
    drop(page, "tone.wav", encoded(tone_sequence(2)))
    page.wait_for_selector("#bars li")
    assert alert.is_hidden()
    assert texts(page, "#bars .label")[0] == "end"
    page.route("**/api/predict", lambda route: route.abort())
    drop(page, "tone.wav", encoded(tone_sequence(2)))
    page.wait_for_selector("#problem:visible")
    assert "The server does not answer" in alert.inner_text()
    page.complaints.clear()  # the browser logs the request that was cut off


@pytest.mark.slow
def test_a_microphone_that_is_refused_is_told(open_page):
    page = open_page()
    page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("", "NotAllowedError"); }; }"""
    )
    page.locator("#record").click()
    page.wait_for_selector("#problem:visible")
    assert "may not use the microphone" in page.locator("#problem").inner_text()
    assert page.locator("#record").is_enabled()
