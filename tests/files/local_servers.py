"""Servers on this machine for tests of downloads: a publisher's, a proxy, one that is silent, and a small hub."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Publisher

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        address = urlparse(self.path)
        self.server.asked.append(f"{self.command} {self.path}")
        status, headers, body = self.server.find(address.path)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        cut = self.server.cuts.get(address.path, len(body))
        self.wfile.write(body[:cut])
        if cut < len(body):
            self.wfile.flush()
            if self.server.is_silent_at_cut:
                self.server.closed.wait(20)
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        return


class Publisher(http.server.ThreadingHTTPServer):
    """Serves `files` by their paths. cuts: after how many bytes a path's answer ends, or falls silent."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.cuts: dict[str, int] = {}
        self.is_silent_at_cut = False
        self.asked: list[str] = []
        self.closed = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an answer."""
        if path in self.files:
            return 200, {}, self.files[path]
        return 404, {}, b"nothing here"


class Proxy(Publisher):
    """Answers a whole address, as a proxy is asked, with the file of its path."""

    def find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        return super().find(urlparse(path).path)


class Hub(Publisher):
    """The part of the Hugging Face hub that a download of a model asks. files: by "org/name/file"."""

    def find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        parts = path.strip("/").split("/")
        if path in ("", "/"):
            return 200, {}, b""
        if parts[:2] == ["api", "models"]:
            return self._describe("/".join(parts[2:4]), parts[4:])
        if parts[2:3] == ["resolve"]:
            body = self.files.get("/".join([*parts[:2], *parts[4:]]))
            if body is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            etag = hashlib.sha256(body).hexdigest()
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body
        return 404, {}, b""

    def _describe(self, repository: str, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
        files = {
            name.removeprefix(f"{repository}/"): body
            for name, body in self.files.items()
            if name.startswith(f"{repository}/")
        }
        if not files:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        entries = [
            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for name, body in files.items()
        ]
        if rest[:1] == ["tree"]:
            answer: Any = entries
        else:
            siblings = [{"rfilename": entry["path"], "size": entry["size"]} for entry in entries]
            answer = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


@contextmanager
def running(server: Publisher) -> Iterator[Publisher]:
    """Serve during the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        server.server_close()


@contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def wait_until(condition: Any, most_seconds: float = 10.0) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + most_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
