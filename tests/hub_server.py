"""A small Hub: the part of its protocol that huggingface_hub uses, in memory, on 127.0.0.1, with failures on demand.

Files come from two hosts, as they do on the Hub: one has the names and asks for tokens, the other stores large files
and must never see a token. What a test wants to go wrong is a :class:`Rule`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Rule:
    """What goes wrong, for the requests it matches.

    ``match`` is a pattern for ``"METHOD path"``; ``times`` is how often (-1 for always). The failures: ``delay``, in
    seconds; a ``status`` instead of the answer, with a ``code``, ``headers`` and ``text``; ``cut``, the share of the
    body after which the connection is closed (with ``reset``, by RST); ``flip``, which changes a byte in the middle
    of the body; ``whole``, which gives all of it when only a part was asked for.
    """

    match: str
    times: int = -1
    delay: float = 0.0
    status: int = 0
    code: str = ""
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: float | None = None
    reset: bool = False
    flip: bool = False
    whole: bool = False
    used: int = 0


@dataclass
class Repo:
    """Commits are dictionaries of file names to bytes; ``refs`` names some of them."""

    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        files = {**self.commits.get(self.refs.get(branch, ""), {}), **files}
        text = repr((len(self.commits), sorted((name, hashlib.sha256(c).hexdigest()) for name, c in files.items())))
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = files
        self.refs[branch] = oid
        return oid


@dataclass
class Seen:
    """A request that came in."""

    line: str
    port: int
    headers: dict[str, str]


class HubServer:
    """The server. ``users`` maps tokens to names; who owns a name may write its repositories, ``readers`` may not.

    ``files`` are given to everybody, by path: what other hosts have, and repositories of data sets.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.users: dict[str, str] = {}
        self.rules: list[Rule] = []
        self.seen: list[Seen] = []
        self.large: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self._ports = [0, 0]
        self._servers: list[ThreadingHTTPServer] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def storage(self) -> str:
        """Where large files are: the same machine under another name, since clients tell hosts apart by that."""
        return f"http://localhost:{self._ports[1]}"

    def start(self) -> None:
        """Listen, after a stop on the ports of before."""
        for i in range(2):
            server = _Listener(("127.0.0.1", self._ports[i]), _Handler)
            server.hub = self
            self._ports[i] = server.server_address[1]
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            self._servers.append(server)

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.hang_up()
        self._servers.clear()

    def add(self, name: str, files: dict[str, bytes], **options) -> str:
        """Make a repository and return its first commit."""
        self.repos[name] = Repo(**options)
        return self.repos[name].commit(files)

    def fail(self, match: str, **how) -> Rule:
        self.rules.insert(0, Rule(match, **how))
        return self.rules[0]

    def requests(self, match: str) -> list[Seen]:
        return [seen for seen in self.seen if re.search(match, seen.line)]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    hub: HubServer

    def __init__(self, *args) -> None:
        self.connections: list[socket.socket] = []
        super().__init__(*args)

    def process_request(self, request, client_address) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """Close what clients keep open for the next request, as a network that goes away does."""
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed before
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address) -> None:
        pass  # clients hang up when a test wants them to


class _Answer(Exception):  # noqa: N818 (an answer need not be an error)
    def __init__(self, status: int, body=b"", *, code: str = "", message: str = "", **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if code:
            self.headers["X-Error-Code"] = code
        if message:
            self.headers["X-Error-Message"] = message


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, *args) -> None:
        pass

    def handle_request(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {path}"
        with hub.lock:
            hub.seen.append(Seen(line, self.server.server_address[1], {k.lower(): v for k, v in self.headers.items()}))
            rule = next((r for r in hub.rules if r.times and re.search(r.match, line)), None)
            if rule:
                rule.times -= 1
                rule.used += 1
        if rule:
            time.sleep(rule.delay)
        try:
            if rule and rule.status:
                message = "Injected." if rule.status >= 400 else ""
                raise _Answer(rule.status, rule.text.encode(), code=rule.code, message=message, **rule.headers)
            with hub.lock:
                self._route(path, body)
            raise _Answer(404, {"error": "no such address"})
        except _Answer as answer:
            self._send(answer, rule)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    def _send(self, answer: _Answer, rule: Rule | None) -> None:
        status, content, headers = answer.status, answer.body, dict(answer.headers)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted and status == 200 and not (rule and rule.whole):
            start, size = int(wanted[1]), len(content)
            status, content = (206, content[start:]) if start < size else (416, b"")
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}" if content else f"bytes */{size}"
        if rule and rule.flip and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if rule and rule.cut is not None:
            self.wfile.write(content[: int(len(content) * rule.cut)])
            self.wfile.flush()
            if rule.reset:  # linger for no time at all: the kernel sends RST
                time.sleep(0.05)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(content)

    # What is asked for ----------------------------------------------------------------------------------------------

    def _route(self, path: str, body: bytes) -> None:
        hub = self.server.hub
        if path in hub.files:
            content = hub.files[path]
            raise _Answer(200, content, ETag=f'"{sha256(content)}"', X_Repo_Commit="0" * 40, Accept_Ranges="bytes")
        if self.server.server_address[1] == urlsplit(hub.storage).port:
            self._store(path, body)
            return
        if path == "/api/repos/create" and self.command == "POST":
            self._create(json.loads(body))
        if path == "/api/validate-yaml":
            raise _Answer(200, {"errors": [], "warnings": []})
        if m := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*m.groups())
        if m := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(m[1], m[2] or "main")
        if m := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", path):
            self._preupload(m[1], json.loads(body))
        if m := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._batch(m[1], json.loads(body))
        if m := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            self._commit(m[1], m[2], [json.loads(line) for line in body.splitlines()])

    def _token(self) -> str:
        """Return the token of the request, which may be none at all but not one that nobody has."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.server.hub.users:
            raise _Answer(401, message="Invalid credentials in Authorization header")
        return token

    def _readable(self, name: str) -> Repo:
        """Return a repository; who may not know of it gets the same answer as for one that is not there."""
        token, repo = self._token(), self.server.hub.repos.get(name)
        user = self.server.hub.users.get(token)
        if repo is None or (repo.private and user != name.split("/")[0] and user not in repo.readers):
            if token:
                raise _Answer(404, code="RepoNotFound", message="Repository not found")
            raise _Answer(401, message="Invalid username or password.")
        return repo

    def _writable(self, name: str) -> Repo:
        token, repo = self._token(), self._readable(name)
        if not token:
            raise _Answer(401, message="Invalid username or password.")
        if self.server.hub.users[token] != name.split("/")[0]:
            raise _Answer(403, message="You don't have the rights to write to this repository")
        return repo

    def _at(self, repo: Repo, revision: str) -> str:
        oid = repo.refs.get(revision, revision)
        if oid not in repo.commits:
            raise _Answer(404, code="RevisionNotFound", message=f"Invalid rev id: {revision}")
        return oid

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self._readable(name)
        user = self.server.hub.users.get(self._token())
        if repo.gated and user not in repo.readers:
            status, word = (403, "ask for access") if user else (401, "log in")
            raise _Answer(status, code="GatedRepo", message=f"Access to model {name} is restricted: {word}.")
        oid = self._at(repo, revision)
        if file not in repo.commits[oid]:
            raise _Answer(404, code="EntryNotFound", message="Entry not found", X_Repo_Commit=oid)
        content = repo.commits[oid][file]
        headers = {"X_Repo_Commit": oid, "X_Linked_Size": str(len(content))}
        if file.endswith(".safetensors"):
            digest = sha256(content)
            self.server.hub.large[digest] = content
            headers |= {
                "X_Linked_Etag": f'"{digest}"',
                "Location": f"{self.server.hub.storage}/large/{digest}?sign=s3cr3t",
            }
            raise _Answer(302, **headers)
        raise _Answer(200, content, ETag=f'"{git_sha1(content)}"', Accept_Ranges="bytes", **headers)

    def _info(self, name: str, revision: str) -> None:
        repo = self._readable(name)
        oid = self._at(repo, revision)
        info = {"id": name, "sha": oid, "private": repo.private, "gated": "manual" if repo.gated else False}
        raise _Answer(200, {**info, "siblings": [{"rfilename": file} for file in repo.commits[oid]]})

    # What is given --------------------------------------------------------------------------------------------------

    def _create(self, wish: dict) -> None:
        token, hub = self._token(), self.server.hub
        if not token:
            raise _Answer(401, message="Invalid username or password.")
        owner = wish.get("organization") or hub.users[token]
        if owner != hub.users[token]:
            raise _Answer(403, message=f"You don't have the rights to create a model under the namespace {owner}")
        name = f"{owner}/{wish['name']}"
        if name in hub.repos:
            raise _Answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
        private = wish.get("private") or wish.get("visibility") == "private"
        hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=bool(private))
        raise _Answer(200, {"url": f"{hub.url}/{name}", "name": name, "id": name})

    def _preupload(self, name: str, wish: dict) -> None:
        repo = self._writable(name)
        now = repo.commits[repo.refs["main"]]
        files = []
        for file in wish["files"]:
            large = file["path"].endswith(".safetensors")
            oid = None
            if file["path"] in now:
                content = now[file["path"]]
                oid = sha256(content) if large else git_sha1(content)
            mode = "lfs" if large else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise _Answer(200, {"files": files})

    def _batch(self, name: str, wish: dict) -> None:
        self._writable(name)
        hub, objects = self.server.hub, []
        for item in wish["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in hub.large:
                answer["actions"] = {"upload": {"href": f"{hub.storage}/large/{item['oid']}?sign=s3cr3t"}}
            objects.append(answer)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def _store(self, path: str, body: bytes) -> None:
        hub, digest = self.server.hub, path.rpartition("/")[2]
        if self.command == "PUT":
            if sha256(body) != digest:
                raise _Answer(400, message="The content does not have the hash of its address")
            hub.large[digest] = body
            raise _Answer(200, ETag=f'"{digest}"')
        if digest in hub.large:
            raise _Answer(200, hub.large[digest], ETag=f'"{digest}"', Accept_Ranges="bytes")

    def _commit(self, name: str, branch: str, lines: list[dict]) -> None:
        repo, hub, files = self._writable(name), self.server.hub, {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in hub.large:
                    raise _Answer(400, message="A large file was not uploaded")
                files[value["path"]] = hub.large[value["oid"]]
        oid = repo.commit(files, branch)
        raise _Answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{name}/commit/{oid}"})
