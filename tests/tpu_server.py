"""A server on the loopback interface that speaks as much of Cloud TPU's API, version 2, as Convoy needs.

Bodies are read by the official client's own messages, which refuse fields that there are not. What becomes of a queued
resource, a test says: `server.resources[name]["state"] = {"state": "ACTIVE"}`.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.auth.credentials import AnonymousCredentials
from google.cloud import tpu_v2
from google.cloud.tpu_v2.services.tpu.transports import TpuRestTransport

_PATH = re.compile(r"/v2/(?P<parent>projects/[^/]+/locations/[^/]+)/(?P<kind>\w+)(?:/(?P<name>[^/]+))?")


class TpuServer:
    """Serves until the end of the `with`."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.faults: list[tuple[int, str]] = []  # the next answers: HTTP status, message
        self.operations: list[dict[str, Any]] = []  # the next operations, instead of one that is done
        self.requests: list[str] = []

    def client(self) -> Any:
        """The official client, of this server."""
        host = f"127.0.0.1:{self._server.server_port}"
        return tpu_v2.TpuClient(
            transport=TpuRestTransport(host=host, credentials=AnonymousCredentials(), url_scheme="http")
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests.append(f"{method} {target}")
        if self.faults:
            status, message = self.faults.pop(0)
            return status, {"error": {"code": status, "message": message}}
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        match = _PATH.fullmatch(path)
        if not match:
            return 404, {"error": {"code": 404, "message": path}}
        things = {"queuedResources": self.resources, "nodes": self.nodes}.get(match["kind"], {})
        name, parent = match["name"], match["parent"]
        if match["kind"] == "operations":
            return 200, {"name": f"{parent}/operations/{name}", "done": False}
        if method == "POST":
            name = query["queuedResourceId"][0]
            if asked := query.get("requestId"):  # gcloud sends none
                uuid.UUID(asked[0])
            if name in things:
                return 409, {"error": {"code": 409, "message": "already exists"}}
            resource = json.loads(body)
            tpu_v2.QueuedResource.from_json(json.dumps(resource))  # ParseError for unknown fields
            things[name] = {
                **resource,
                "name": f"{parent}/queuedResources/{name}",
                "state": {"state": "WAITING_FOR_RESOURCES"},
            }
            return 200, self._operation(parent, things[name])
        if name is None:
            return 200, {match["kind"]: list(things.values())}
        if name not in things:
            return 404, {"error": {"code": 404, "message": f"{name} not found"}}
        if method == "DELETE":
            if match["kind"] == "queuedResources":
                changing = {"PROVISIONING": "ACTIVE", "SUSPENDING": "SUSPENDED"}.get(things[name]["state"]["state"])
                if changing:
                    things[name]["state"] = {"state": changing}
                    return 400, {"error": {"code": 400, "message": "its state is changing"}}
                busy = things[name]["state"]["state"] not in ("ACCEPTED", "FAILED", "SUSPENDED")
                if busy and query.get("force", [""])[0].lower() != "true":
                    return 400, {"error": {"code": 400, "message": "has nodes"}}
                self.nodes.pop(name, None)
                things[name]["state"] = {"state": "DELETING"}  # gone after the next lookup
            else:
                del things[name]
                self.resources[name]["state"] = {"state": "SUSPENDED"}
            return 200, self._operation(parent, {})
        answer = dict(things[name])
        if answer.get("state") == {"state": "DELETING"}:
            del things[name]
        return 200, answer

    def _operation(self, parent: str, response: dict[str, Any]) -> dict[str, Any]:
        name = {"name": f"{parent}/operations/1"}
        if self.operations:
            return {**name, **self.operations.pop(0)}
        kind = "google.cloud.tpu.v2.QueuedResource" if response else "google.protobuf.Empty"
        return {**name, "done": True, "response": {"@type": f"type.googleapis.com/{kind}", **response}}

    def __enter__(self) -> TpuServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = outer.answer(self.command, self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
