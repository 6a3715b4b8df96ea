"""A stand-in for the hub on this machine: what pushing and loading use of its HTTP interface."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import yaml

TOKENS = {"hf_writes": ("ada", True), "hf_reads": ("ada", False)}
"""Who has a token, and whether it may write."""


@dataclass
class Repository:
    private: bool
    # The files of every commit, by the commit's name; and the commits of every branch.
    files: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    titles: dict = field(default_factory=dict)
    requests: int = 0

    def head(self, revision):
        revision = unquote(revision)
        return self.branches.get(revision) or (revision if revision in self.files else None)

    def add(self, branch, files, title):
        content = repr((branch, title, sorted(files), len(self.files))).encode()
        oid = hashlib.sha1(content).hexdigest()
        self.files[oid], self.titles[oid], self.branches[branch] = files, title, oid
        return oid


@dataclass
class Hub:
    """What the stand-in holds; `calls` are the requests that it got, with who sent them."""

    url: str = ""
    repositories: dict = field(default_factory=dict)
    blobs: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    # What requests whose path matches are answered with, in place of the usual.
    failures: dict = field(default_factory=dict)

    def files(self, name, revision="main"):
        repository = self.repositories[name]
        return repository.files[repository.head(revision)]

    def titles(self, name):
        return list(self.repositories[name].titles.values())

    def put(self, name, file, content, revision="main"):
        """Change a file as somebody may in a browser."""
        files = {**self.files(name, revision), file: content}
        self.repositories[name].add(revision, files, f"Update {file}")


class Refused(Exception):
    def __init__(self, status, code="", body=None):
        self.status, self.code, self.body = status, code, body or {"error": code}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes: ClassVar = defaultdict(list)

    def log_message(self, *args):
        pass

    def answer(self):
        hub, path = self.server.hub, urlsplit(self.path).path
        user, writes = TOKENS.get(
            self.headers.get("authorization", "").removeprefix("Bearer "), (None, False)
        )
        hub.calls.append((self.command, path, user))
        body = self.read_body()
        headers = {}
        try:
            for pattern, status in hub.failures.items():
                if re.search(pattern, path):
                    raise Refused(status)
            for pattern, handle in self.routes[self.command]:
                match = re.fullmatch(pattern, path)
                if match:
                    result = handle(self, hub, user, writes, body, *match.groups())
                    break
            else:
                raise Refused(404, "EntryNotFound")
            status, content = 200, result
            if isinstance(result, tuple):
                content, headers = result
        except Refused as refused:
            status, content = refused.status, refused.body
            headers = {"X-Error-Code": refused.code} if refused.code else {}
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def read_body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


def route(commands, pattern):
    def add(handle):
        for command in commands.split():
            Handler.routes[command].append((pattern, handle))
        return handle

    return add


def readable(hub, user, name):
    repository = hub.repositories.get(name)
    if repository is None or (repository.private and user is None):
        raise Refused(401 if user is None else 404, "RepoNotFound")
    return repository


def writable(hub, user, writes, name):
    repository = readable(hub, user, name)
    if user is None:
        raise Refused(401)
    if not writes or name.split("/")[0] != user:
        raise Refused(403)
    return repository


def commit_of(repository, revision):
    oid = repository.head(revision)
    if oid is None:
        raise Refused(404, "RevisionNotFound")
    return oid


@route("POST", "/api/repos/create")
def create(request, hub, user, writes, body):
    asked = json.loads(body)
    if user is None:
        raise Refused(401)
    owner = asked["organization"] or user
    if not writes or owner != user:
        raise Refused(403)
    name = f"{owner}/{asked['name']}"
    url = {"url": f"{hub.url}/{name}"}
    if name in hub.repositories:
        raise Refused(409, body=url)
    private = asked.get("visibility") == "private" or asked.get("private") is True
    hub.repositories[name] = Repository(private)
    hub.repositories[name].add("main", {".gitattributes": b""}, "initial commit")
    return url


@route("POST", "/api/validate-yaml")
def validate(request, hub, user, writes, body):
    front = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.S)
    fields = yaml.safe_load(front.group(1)) if front else None
    if not isinstance(fields, dict):
        raise Refused(400, body={"errors": [{"message": "no metadata"}]})
    return {}


@route("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
def info(request, hub, user, writes, body, name, revision):
    repository = readable(hub, user, name)
    oid = commit_of(repository, revision or "main")
    siblings = [{"rfilename": file} for file in repository.files[oid]]
    return {"id": name, "sha": oid, "private": repository.private, "siblings": siblings}


@route("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)")
def tree(request, hub, user, writes, body, name, revision):
    repository = readable(hub, user, name)
    files = repository.files[commit_of(repository, revision)]
    return [
        {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for path, data in files.items()
    ]


@route("POST", r"/api/models/([^/]+/[^/]+)/branch/([^/]+)")
def branch(request, hub, user, writes, body, name, revision):
    repository = writable(hub, user, writes, name)
    revision = unquote(revision)
    if revision in repository.branches:
        raise Refused(409)
    repository.branches[revision] = repository.branches["main"]
    return {}


@route("POST", r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)")
def preupload(request, hub, user, writes, body, name, revision):
    commit_of(readable(hub, user, name), revision)
    return {
        "files": [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
    }


@route("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
def lfs_batch(request, hub, user, writes, body, name):
    writable(hub, user, writes, name)
    objects = []
    for asked in json.loads(body)["objects"]:
        actions = {"upload": {"href": f"{hub.url}/lfs/{asked['oid']}"}}
        is_there = asked["oid"] in hub.blobs
        objects.append(asked if is_there else {**asked, "actions": actions})
    return {"transfer": "basic", "objects": objects}


@route("PUT", "/lfs/([0-9a-f]{64})")
def lfs_upload(request, hub, user, writes, body, oid):
    if hashlib.sha256(body).hexdigest() != oid:
        raise Refused(422)
    hub.blobs[oid] = body
    return {}


@route("POST", r"/api/models/([^/]+/[^/]+)/commit/([^/]+)")
def commit(request, hub, user, writes, body, name, revision):
    repository = writable(hub, user, writes, name)
    files = dict(repository.files[commit_of(repository, revision)])
    title, target = "", unquote(revision)
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        match line["key"]:
            case "header":
                title = "\n\n".join(filter(None, (value["summary"], value["description"])))
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                files[value["path"]] = hub.blobs[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
            case other:
                raise Refused(400, other)
    is_proposed = "create_pr=1" in request.path
    if is_proposed:
        repository.requests += 1
        target = f"refs/pr/{repository.requests}"
    oid = repository.add(target, files, title)
    answer = {"success": True, "commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid}
    if is_proposed:
        answer["pullRequestUrl"] = f"{hub.url}/{name}/discussions/{repository.requests}"
    return answer


@route("GET HEAD", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
def resolve(request, hub, user, writes, body, name, revision, file):
    repository = readable(hub, user, name)
    oid = commit_of(repository, revision)
    data = repository.files[oid].get(unquote(file))
    if data is None:
        raise Refused(404, "EntryNotFound")
    return data, {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}


@contextmanager
def running_hub():
    """Serve a new stand-in until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub = server.hub = Hub(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(hub, monkeypatch, folder):
    """Have huggingface_hub speak to the stand-in, and keep what it keeps in a folder."""
    import transformers.utils.hub
    from huggingface_hub import constants

    from skgliclass.loading import sources

    settings = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": frozenset({"127.0.0.1"}),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_STORED_TOKENS_PATH": str(folder / "tokens"),
        # Its storage has a protocol of its own.
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value, raising=False)
    # Transformers keeps what it has once made, which knows the address of then.
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sources, "_snapshots", {})
