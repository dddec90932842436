"""A hub on loopback: what huggingface_hub asks for when it downloads and uploads models, and faults to switch on."""

import base64
import hashlib
import json
import math
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

ROUTES = [  # what else huggingface_hub asks for, it can do without
    ("GET", r"/(?P<repo_id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", "resolve"),
    ("GET", r"/storage/(?P<sha256>\w{64})", "fetch"),
    ("PUT", r"/storage/(?P<sha256>\w{64})", "store"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", r"/api/models/(?P<repo_id>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?", "describe"),
    ("POST", r"/api/models/(?P<repo_id>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "choose_modes"),
    ("POST", r"/(?P<repo_id>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "choose_uploads"),
    ("POST", r"/api/models/(?P<repo_id>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
]


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    query: str
    range: str | None
    authorization: str | None
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    start: int = 0
    """Which byte of the file the content starts with."""


class Refusal(Exception):
    """An answer that is an error, with the code by which huggingface_hub knows it."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        named = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(json.dumps({"error": message}).encode(), status, named)


class Repository:
    """Commits, each with all its files, and the names of some: branches, tags, pull requests."""

    def __init__(self, private: bool = False, gated: bool = False) -> None:
        self.private, self.gated = private, gated
        self.commits: dict[str, dict[str, bytes]] = {}
        self.names: dict[str, str] = {}
        self.add({".gitattributes": b""})

    def add(self, files: dict[str, bytes], name: str = "main") -> str:
        """A commit on a branch, on top of the main one where the branch is new."""
        parent = self.names.get(name, self.names.get("main", ""))
        commit = hashlib.sha1(f"{parent} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[commit] = {**self.commits.get(parent, {}), **files}
        self.names[name] = commit
        return commit

    def find(self, revision: str) -> str:
        commit = self.names.get(revision, revision)
        if commit not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


class Hub:
    """The hub's content, and a server for it. The storage has another origin: localhost instead of 127.0.0.1."""

    def __init__(self) -> None:
        self._listen(port=0)
        self.reset()

    def reset(self) -> None:
        """Forget repositories, requests and faults."""
        self.repositories: dict[str, Repository] = {}
        self.storage: dict[str, bytes] = {}  # by SHA-256
        self.large = (".safetensors",)  # such files lie in the storage, as on the real hub
        self.users = {"token-of-user": "user", "token-of-guest": "guest"}
        self.requests: list[Request] = []
        self.drop_at: int | None = None  # a file's byte before which the connection ends
        self.drops: float = math.inf  # how often
        self.drop_hard = False  # by a reset instead of a close
        self.statuses: dict[str, int] = {}  # of all answers, by method
        self.delays: list[float] = []  # seconds, of the next answers
        self.claims: int | None = None  # the size that it states for every file
        self.pieces: tuple[bytes, float] | None = None  # sends this without an end, with pauses of so many seconds

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def put(self, repo_id: str, files: dict[str, bytes], name: str = "main", **access: bool) -> str:
        """A commit without a client; returns its id."""
        repository = self.repositories.setdefault(repo_id, Repository(**access))
        self.storage |= {_sha256(content): content for file, content in files.items() if file.endswith(self.large)}
        return repository.add(files, name)

    def files(self, repo_id: str, name: str = "main") -> dict[str, bytes]:
        repository = self.repositories[repo_id]
        return repository.commits[repository.names[name]]

    def asked(self, method: str, ending: str = "") -> list[Request]:
        """The requests so far of a method, whose path ends so."""
        return [request for request in self.requests if request.method == method and request.path.endswith(ending)]

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens."""
        port = self._server.server_port
        self.close()
        yield
        self._listen(port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: Request) -> Answer:
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method.replace("HEAD", "GET"):
                self.requests.append(request)
                parts = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                return self._answer(name, request, parts)
        return Answer(status=404)

    def _answer(self, name: str, request: Request, parts: dict[str, str]) -> Answer:
        if self.delays:
            time.sleep(self.delays.pop(0))
        if request.method in self.statuses:
            return Answer(status=self.statuses[request.method])
        try:
            return getattr(self, f"_{name}")(request, **parts)
        except Refusal as refusal:
            return refusal.answer

    # Downloads

    def _resolve(self, request: Request, repo_id: str, revision: str, file: str) -> Answer:
        repository = self._open(request, repo_id)
        commit = repository.find(revision)
        if file not in repository.commits[commit]:
            raise Refusal(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit)
        content = repository.commits[commit][file]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{self._oid(file, content)}"'}
        if not file.endswith(self.large):
            return Answer(content, headers=headers)
        linked = {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(content))}
        return Answer(status=302, headers={**headers, **linked, "Location": self._storage_address(_sha256(content))})

    def _fetch(self, request: Request, sha256: str) -> Answer:
        if sha256 not in self.storage:
            return Answer(status=404)
        content, headers = self.storage[sha256], {"Accept-Ranges": "bytes"}
        if request.range is None:
            return Answer(content, headers=headers)
        start = int(request.range.removeprefix("bytes=").removesuffix("-"))
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Answer(content[start:], 206 if start < len(content) else 416, headers, start)

    # Uploads

    def _create(self, request: Request) -> Answer:
        wanted, user = request.json(), self._user(request)
        owner = wanted.get("organization") or user
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if owner != user:
            raise Refusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        repo_id = f"{owner}/{wanted['name']}"
        address = json.dumps({"url": f"{self.endpoint}/{repo_id}"}).encode()
        if repo_id in self.repositories:
            return Answer(address, 409)
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.repositories[repo_id] = Repository(private=bool(private))
        return Answer(address)

    def _validate(self, request: Request) -> Answer:
        return Answer(b'{"errors": [], "warnings": []}')

    def _describe(self, request: Request, repo_id: str, revision: str = "main") -> Answer:
        repository = self._open(request, repo_id)
        described = {"id": repo_id, "sha": repository.find(revision), "private": repository.private, "tags": []}
        return Answer(json.dumps({**described, "siblings": [], "downloads": 0, "likes": 0}).encode())

    def _choose_modes(self, request: Request, repo_id: str, revision: str) -> Answer:
        repository = self._open(request, repo_id, write="create_pr" not in request.query)
        there = repository.commits[repository.find(revision)]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(self.large) else "regular",
                "shouldIgnore": False,
                "oid": self._oid(file["path"], there[file["path"]]) if file["path"] in there else None,
            }
            for file in request.json()["files"]
        ]
        return Answer(json.dumps({"files": modes}).encode())

    def _choose_uploads(self, request: Request, repo_id: str) -> Answer:
        self._open(request, repo_id)
        objects = [
            wanted
            if wanted["oid"] in self.storage
            else {**wanted, "actions": {"upload": {"href": self._storage_address(wanted["oid"])}}}
            for wanted in request.json()["objects"]
        ]
        return Answer(json.dumps({"transfer": "basic", "objects": objects}).encode())

    def _store(self, request: Request, sha256: str) -> Answer:
        if _sha256(request.body) != sha256:
            raise Refusal(400, "the content is not the one that was announced")
        self.storage[sha256] = request.body
        return Answer()

    def _commit(self, request: Request, repo_id: str, revision: str) -> Answer:
        proposed = "create_pr" in request.query
        repository = self._open(request, repo_id, write=not proposed)
        repository.find(revision)
        files: dict[str, bytes] = {}
        for line in request.body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.storage[value["oid"]]
        number = 1 + sum(name.startswith("refs/pr/") for name in repository.names)
        commit = repository.add(files, f"refs/pr/{number}" if proposed else revision)
        address = f"{self.endpoint}/{repo_id}"
        said = {"success": True, "commitOid": commit, "commitUrl": f"{address}/commit/{commit}"}
        if proposed:
            said["pullRequestUrl"] = f"{address}/discussions/{number}"
        return Answer(json.dumps(said).encode())

    # Who may

    def _user(self, request: Request) -> str | None:
        if request.authorization is None:
            return None
        user = self.users.get(request.authorization.removeprefix("Bearer "))
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def _open(self, request: Request, repo_id: str, write: bool = False) -> Repository:
        user, repository = self._user(request), self.repositories.get(repo_id)
        owns = user == repo_id.partition("/")[0]
        if repository is None or (repository.private and not owns):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if repository.gated and not owns:
            raise Refusal(403, f"Access to model {repo_id} is restricted.", "GatedRepo")
        if write and user is None:
            raise Refusal(401, "Invalid username or password.")
        if write and not owns:
            raise Refusal(403, f"You have read access to {repo_id} but not the required permissions for this operation")
        return repository

    # The server

    def _oid(self, file: str, content: bytes) -> str:
        """What the hub knows a content by: its SHA-256 in the storage, git's hash elsewhere."""
        if file.endswith(self.large):
            return _sha256(content)
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def _storage_address(self, sha256: str) -> str:
        return f"http://localhost:{self._server.server_port}/storage/{sha256}"

    def _listen(self, port: int) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("BoundHandler", (Handler,), {"hub": self}))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=url.path,
            query=url.query,
            range=self.headers.get("Range"),
            authorization=self.headers.get("Authorization"),
            body=self._read_body(),
        )
        answer = self.hub.answer(request)
        self.close_connection = True
        if self.hub.pieces is not None and request.method == "GET" and answer.status == 200:
            self._send_pieces(*self.hub.pieces)
            return
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.content)), "Connection": "close", **answer.headers}
        if self.hub.claims is not None and answer.status == 200:
            headers["Content-Length"] = str(self.hub.claims)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            self._send(answer.content, answer.start)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *arguments: object) -> None:
        """Nothing: the requests are in a list."""

    def _send(self, content: bytes, start: int) -> None:
        hub = self.hub
        if hub.drop_at is None or hub.drops <= 0 or not start <= hub.drop_at < start + len(content):
            self.wfile.write(content)
            return
        hub.drops -= 1
        self.wfile.write(content[: hub.drop_at - start])
        if hub.drop_hard:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    def _send_pieces(self, piece: bytes, pause: float) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(pause)
        except OSError:  # the client has gone
            return

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
