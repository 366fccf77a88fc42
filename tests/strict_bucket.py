"""A server of Google Cloud Storage's JSON API, as far as a store needs it, that enforces what Google documents.

fake-gcs-server, the other one of the tests, ignores `ifGenerationMatch` on deletes and downloads, and puts its own crc32c in
the place of a wrong one. This one answers 412, 304, 404, 400 and 416 as the pages on request preconditions, on status codes
and on resumable uploads have it (cloud.google.com/storage/docs).

    with StrictBucket() as server:
        server.create("bucket")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.host)
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import google_crc32c

_PATH = re.compile(r"(?:/upload|/download)?/storage/v1/b(?:/(?P<bucket>[^/]+)(?P<objects>/o(?:/(?P<name>.+))?)?)?")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_PAGE = 1000  # objects in one answer of a listing
_JSON = {"Content-Type": "application/json; charset=UTF-8"}


@dataclass
class Object:
    """One generation of an object; there is none but the last, as in a bucket without versions."""

    data: bytes
    generation: int
    resource: dict[str, Any]


@dataclass
class Session:
    """A resumable upload."""

    bucket: str
    resource: dict[str, Any]
    query: Mapping[str, str]
    data: bytearray = field(default_factory=bytearray)
    stored: Object | None = None


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: HTTPStatus, message: str, reason: str):
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass
class Answer:
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK


class StrictBucket:
    """Listens on the loopback interface, in threads of this process, and keeps all objects in memory."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self.host = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.sent = self._server.sent  # (name, first byte, bytes) of every answer that held content
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def create(self, bucket: str) -> None:
        """Makes a bucket; an existing one stays as it is."""
        self._server.buckets.setdefault(bucket, {})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> StrictBucket:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.buckets: dict[str, dict[str, Object]] = {}
        self.sessions: dict[str, Session] = {}
        self.sent: list[tuple[str, int, int]] = []
        self.lock = threading.Lock()
        self.generations: Iterator[int] = itertools.count(time.time_ns() // 1000)

    def handle_error(self, request: object, client_address: object) -> None: ...  # a client that was killed

    # What a request does, whatever it came by; `query` are its parameters.

    def insert(self, bucket: str, resource: dict[str, Any], data: bytes, query: Mapping[str, str]) -> Object:
        """Stores an object as a whole."""
        name = resource.get("name") or query["name"]
        crc32c = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        if (said := resource.get("crc32c", crc32c)) != crc32c:
            message = f'Provided CRC32C "{said}" doesn\'t match calculated CRC32C "{crc32c}".'
            raise Refused(HTTPStatus.BAD_REQUEST, message, "invalid")
        self.check(self.buckets[bucket].get(name), query)
        generation = next(self.generations)
        facts = {"bucket": bucket, "generation": str(generation), "metageneration": "1", "size": str(len(data))}
        stored = Object(data, generation, {**resource, **facts, "name": name, "crc32c": crc32c})
        self.buckets[bucket][name] = stored
        return stored

    def check(self, live: Object | None, query: Mapping[str, str]) -> None:
        """Refuses a request whose preconditions do not hold; 0 means that there is no live object."""
        generation = live.generation if live else 0
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation:
            message = "At least one of the pre-conditions you specified did not hold."
            raise Refused(HTTPStatus.PRECONDITION_FAILED, message, "conditionNotMet")
        if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == generation:
            raise Refused(HTTPStatus.NOT_MODIFIED, "", "notModified")

    def find(self, bucket: str, name: str, query: Mapping[str, str]) -> Object:
        """The live object, if it is of the generation that is asked for."""
        live = self.buckets[bucket].get(name)
        if live is None or int(query.get("generation", live.generation)) != live.generation:
            raise Refused(HTTPStatus.NOT_FOUND, f"No such object: {bucket}/{name}", "notFound")
        self.check(live, query)
        return live


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *arguments: object) -> None: ...

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            with self.server.lock:
                answer = self._answer(body)
        except Refused as error:
            answer = _refusal(error)
        except (ValueError, KeyError) as error:
            answer = _refusal(Refused(HTTPStatus.BAD_REQUEST, f"Invalid request: {error}", "badRequest"))
        self.send_response_only(answer.status)
        for header, value in answer.headers.items():
            self.send_header(header, value)
        if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _answer(self, body: bytes) -> Answer:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        match = _PATH.fullmatch(url.path)
        if not match or (self.command == "PUT") != ("upload_id" in query):
            raise Refused(HTTPStatus.NOT_FOUND, "Not Found", "notFound")
        bucket, name = match["bucket"], unquote(match["name"] or "")
        if bucket not in self.server.buckets:
            raise Refused(HTTPStatus.NOT_FOUND, "The specified bucket does not exist.", "notFound")
        if not match["objects"]:
            return _json({"name": bucket})
        if self.command == "PUT":
            return self._chunk(body, query["upload_id"])
        if self.command == "POST":
            return self._upload(bucket, body, query)
        if not name:
            return self._list(bucket, query)
        live = self.server.find(bucket, name, query)
        if self.command == "DELETE":
            del self.server.buckets[bucket][name]
            return Answer(status=HTTPStatus.NO_CONTENT)
        return self._media(live) if query.get("alt") == "media" else _json(live.resource)

    def _list(self, bucket: str, query: Mapping[str, str]) -> Answer:
        names = sorted(self.server.buckets[bucket])
        names = [
            name for name in names if name.startswith(query.get("prefix", "")) and name > query.get("pageToken", "")
        ]
        count = min(int(query.get("maxResults", _PAGE)), _PAGE)
        page = {"items": [self.server.buckets[bucket][name].resource for name in names[:count]]}
        return _json({**page, "nextPageToken": names[count - 1]} if len(names) > count else page)

    def _media(self, live: Object) -> Answer:
        headers = {"Content-Type": "application/octet-stream", "X-Goog-Generation": str(live.generation),
                   "X-Goog-Hash": f"crc32c={live.resource['crc32c']}"}  # fmt: skip
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not asked:
            self.server.sent.append((live.resource["name"], 0, len(live.data)))
            return Answer(live.data, headers)
        size, first = len(live.data), int(asked[1])
        last = min(int(asked[2] or size), size - 1)
        if first > last:
            raise Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "Request range not satisfiable", "requestedRange")
        self.server.sent.append((live.resource["name"], first, last + 1 - first))
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Answer(live.data[first : last + 1], headers, HTTPStatus.PARTIAL_CONTENT)

    def _upload(self, bucket: str, body: bytes, query: Mapping[str, str]) -> Answer:
        if query["uploadType"] == "multipart":
            resource, data = _multipart(self.headers["Content-Type"], body)
            return _json(self.server.insert(bucket, resource, data, query).resource)
        session = Session(bucket, json.loads(body or b"{}"), query)
        # Checked here, and again once all bytes are there.
        self.server.check(self.server.buckets[bucket].get(session.resource.get("name") or query["name"]), query)
        number = f"session-{next(self.server.generations)}"
        self.server.sessions[number] = session
        return Answer(headers={"Location": f"http://{self.headers['Host']}{self.path}&upload_id={number}"})

    def _chunk(self, body: bytes, number: str) -> Answer:
        session = self.server.sessions.get(number)
        if session is None:
            raise Refused(HTTPStatus.NOT_FOUND, "The upload session does not exist.", "notFound")
        first, total = _CONTENT_RANGE.fullmatch(self.headers["Content-Range"]).groups()
        if session.stored is None:
            kept = len(session.data)
            if first is not None and int(first) > kept:
                raise ValueError(f"bytes {kept} to {first} are missing")
            session.data += body[kept - int(first or kept) :]  # bytes that are there already are passed over
            if total != "*" and len(session.data) == int(total):
                del self.server.sessions[number]  # an upload that is refused now cannot go on
                session.stored = self.server.insert(
                    session.bucket, session.resource, bytes(session.data), session.query
                )
                self.server.sessions[number] = session
        if session.stored:
            return _json(session.stored.resource)
        kept = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
        return Answer(headers=kept, status=HTTPStatus.PERMANENT_REDIRECT)  # 308, here: not complete


def _multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The resource and the bytes of an upload in one request."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if not boundary:
        raise ValueError("no boundary")
    _, first, second, _ = body.split(f"--{boundary[1]}".encode())
    resource, data = (part.partition(b"\r\n\r\n")[2] for part in (first, second))
    return json.loads(resource), data.removesuffix(b"\r\n")


def _json(content: Any) -> Answer:
    return Answer(json.dumps(content).encode(), _JSON)


def _refusal(error: Refused) -> Answer:
    if error.status == HTTPStatus.NOT_MODIFIED:
        return Answer(status=error.status)
    reasons = [{"message": str(error), "domain": "global", "reason": error.reason}]
    content = {"error": {"code": int(error.status), "message": str(error), "errors": reasons}}
    return Answer(json.dumps(content).encode(), _JSON, error.status)
