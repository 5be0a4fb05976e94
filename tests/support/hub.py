"""A stand-in of the Hugging Face hub: what `huggingface_hub` asks of it to resolve, fetch, verify and upload models.

The client finds it by HF_ENDPOINT (`environment`). Large files go through git-lfs, the older of the hub's two ways.
https://huggingface.co/docs/hub/api
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

Files = dict[str, bytes]
_MODEL = r"(?P<model>[^/]+/[^/]+)"


@dataclass
class Hub:
    """The models on it. A commit's name is made of its content, and stays readable when another follows."""

    url: str = ""
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    """Model -> commit -> files; the last commit is the main branch."""
    gated: set[str] = field(default_factory=set)
    uploaded: Files = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def push(self, model: str, files: Files) -> str:
        """A commit of these files; its name."""
        content = json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())})
        commit = hashlib.sha1(f"{model} {content}".encode()).hexdigest()
        self.commits.setdefault(model, {})[commit] = files
        return commit

    def push_folder(self, model: str, folder: Path) -> str:
        return self.push(
            model, {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        )

    def head(self, model: str) -> str:
        return list(self.commits[model])[-1]

    def environment(self, home: Path) -> dict[str, str]:
        """The variables that lead a client here, with its cache in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_test",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Refusal(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        self.hub.requests.append(format % args)

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        try:
            for pattern, work in _ROUTES.items():
                match = re.fullmatch(pattern, path)
                if match is not None:
                    getattr(self, work)(body, **match.groupdict())
                    return
            raise _Refusal(404, "EntryNotFound")
        except _Refusal as refusal:
            self._send(b"{}", refusal.status, {"X-Error-Code": refusal.code})

    def _send(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, document: object) -> None:
        self._send(json.dumps(document).encode(), 200, {"Content-Type": "application/json"})

    def _files(self, model: str, revision: str) -> tuple[str, Files]:
        if model not in self.hub.commits:
            raise _Refusal(404, "RepoNotFound")
        if model in self.hub.gated:
            raise _Refusal(403, "GatedRepo")
        commit = self.hub.head(model) if revision == "main" else revision
        if commit not in self.hub.commits[model]:
            raise _Refusal(404, "RevisionNotFound")
        return commit, self.hub.commits[model][commit]

    def info(self, _body: bytes, model: str, revision: str = "main") -> None:
        commit, files = self._files(model, revision)
        card = re.match(r"---\nlicense: (\S+)", files.get("README.md", b"").decode())
        siblings = [{"rfilename": name} for name in files]
        self._json(
            {"id": model, "sha": commit, "siblings": siblings, "cardData": {"license": card[1]} if card else None}
        )

    def tree(self, _body: bytes, model: str, revision: str) -> None:
        entries = []
        for name, data in self._files(model, revision)[1].items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
            if _is_large(name):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
            entries.append(entry)
        self._json(entries)

    def resolve(self, _body: bytes, model: str, revision: str, name: str) -> None:
        commit, files = self._files(model, revision)
        if name not in files:
            raise _Refusal(404, "EntryNotFound")
        data, status = files[name], 200
        tag = hashlib.sha256(data).hexdigest() if _is_large(name) else _blob(data)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is not None:
            data, status = data[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None], 206
        self._send(data, status, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        model = f"{asked['organization']}/{asked['name']}"
        self.hub.commits.setdefault(model, {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(model)
        self._json({"url": f"{self.hub.url}/{model}", "name": model, "id": model})

    def yaml(self, _body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def preupload(self, body: bytes, model: str) -> None:
        modes = {file["path"]: "lfs" if _is_large(file["path"]) else "regular" for file in json.loads(body)["files"]}
        files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
        self._json({"files": files})

    def batch(self, body: bytes, model: str) -> None:
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}}
            for entry in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.uploaded[oid] = body
        self._send(b"")

    def commit(self, body: bytes, model: str) -> None:
        commits = self.hub.commits[model]
        files = dict(commits[self.hub.head(model)]) if commits else {}
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
        commit = self.hub.push(model, files)
        self._json({"commitUrl": f"{self.hub.url}/{model}/commit/{commit}", "commitOid": commit})


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".png"))


def _blob(data: bytes) -> str:
    """Git's own name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_ROUTES = {
    rf"/api/models/{_MODEL}": "info",
    rf"/api/models/{_MODEL}/revision/(?P<revision>.+)": "info",
    rf"/api/models/{_MODEL}/tree/(?P<revision>.+)": "tree",
    rf"/{_MODEL}/resolve/(?P<revision>[^/]+)/(?P<name>.+)": "resolve",
    r"/api/repos/create": "create",
    r"/api/validate-yaml": "yaml",
    rf"/api/models/{_MODEL}/preupload/main": "preupload",
    rf"/{_MODEL}\.git/info/lfs/objects/batch": "batch",
    r"/lfs/(?P<oid>[0-9a-f]{64})": "store",
    rf"/api/models/{_MODEL}/commit/main": "commit",
}
