"""The HTTP side of kube_server.py: requests of Kubernetes' API, carried out on a KubeServer's objects."""

from __future__ import annotations

import datetime
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from kube_server import KubeServer

Object = dict[str, Any]
JOBSET = {"jobset.x-k8s.io/v1alpha2": {"jobsets": "JobSet"}}
REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid",
           429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}  # fmt: skip
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<part>log))?)?"
)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def failure(code: int, message: str, **more: Any) -> Object:
    base = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "message": message}
    return {**base, "reason": REASONS.get(code, "Unknown"), **more}


def merged(thing: Object, patch: Object) -> Object:
    return {**thing, **{k: merged(thing.get(k, {}), v) if isinstance(v, dict) else v for k, v in patch.items()}}


def fits(thing: Object, labels: str, fields: str) -> bool:
    """Whether an object has what both selectors ask for."""
    have = thing["metadata"].get("labels") or {}
    for term in filter(None, labels.split(",")):
        key, separator, value = term.partition("=")
        if term.startswith("!"):
            if term[1:] in have:
                return False
        elif key not in have or (separator and have[key] != value.removeprefix("=")):
            return False
    for term in filter(None, fields.split(",")):
        key, _, value = term.partition("=")
        actual: Any = thing
        for part in key.split("."):
            actual = actual.get(part, "")
        if actual != value.removeprefix("="):
            return False
    return True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    kube: KubeServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet: a second one would wait for the client's word on the first
    server: Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass

    @property
    def kube(self) -> KubeServer:
        return self.server.kube

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.kube.seen.append(f"{self.command} {self.path}")
        if fault := self.kube.take_fault(self.command, self.path):
            if fault.seconds:
                time.sleep(fault.seconds)
            if not fault.status:
                self.close_connection = True
                return
            self._answer(fault.status, fault.body, fault.headers)
            return
        if self.kube.token and self.headers.get("Authorization") != f"Bearer {self.kube.token}":
            self._answer(401, failure(401, "Unauthorized"))
            return
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        where = _PATH.fullmatch(url.path)
        if where is None or (where["core"] or where["group"]) not in self.kube.groups:
            self._about(url.path)
            return
        self.group, self.namespace = where["core"] or where["group"], where["namespace"] or ""
        self.plural, self.name = where["plural"], where["name"] or ""
        if self.plural not in self.kube.groups[self.group]:
            self._answer(404, "404 page not found\n")
            return
        verbs = {"GET": "get" if self.name else "list", "POST": "create", "DELETE": "delete", "PATCH": "patch"}
        verb = verbs[self.command]
        if (verb, self.plural) in self.kube.forbidden:
            group = self.group.partition("/")[0] if "/" in self.group else ""
            text = (
                f'{self.plural}.{group} is forbidden: User "ann" cannot {verb} resource "{self.plural}" in API group "{group}"'
                f' in the namespace "{self.namespace}"'
            )
            self._answer(403, failure(403, text, details={"group": group, "kind": self.plural}))
            return
        if where["part"]:
            self._log()
        elif self.plural == "selfsubjectaccessreviews":
            self._review(json.loads(body))
        else:
            calls = {
                "get": self._get,
                "list": self._list,
                "create": self._create,
                "delete": self._delete,
                "patch": self._patch,
            }
            calls[verb](body)

    def _get(self, _: bytes) -> None:
        thing = self._found()
        if thing is not None:
            self.kube.on_get(thing)
            self._asked_for(thing)
            self._answer(200, thing)

    def _asked_for(self, thing: Object) -> None:
        """One that is being deleted lasts only so long."""
        if "deletionTimestamp" in thing["metadata"]:
            self.kube.linger -= 1
            if self.kube.linger < 0:
                self.kube.forget(self.plural, thing["metadata"]["namespace"], thing["metadata"]["name"])

    def _found(self) -> Object | None:
        thing = self.kube.objects.get((self.plural, self.namespace, self.name))
        if thing is None:
            text = f'{self.plural} "{self.name}" not found'
            self._answer(404, failure(404, text, details={"name": self.name, "kind": self.plural}))
        return thing

    def _selected(self) -> list[Object]:
        labels, fields = self.query.get("labelSelector", ""), self.query.get("fieldSelector", "")
        return [
            thing
            for (plural, namespace, _), thing in list(self.kube.objects.items())
            if plural == self.plural and self.namespace in ("", namespace) and fits(thing, labels, fields)
        ]

    def _list(self, _: bytes) -> None:
        if self.query.get("watch") in ("true", "1"):
            self._watch()
            return
        kind = self.kube.groups[self.group][self.plural]
        meta = {"resourceVersion": str(self.kube._revision)}
        self._answer(
            200, {"kind": f"{kind}List", "apiVersion": self.group, "metadata": meta, "items": self._selected()}
        )

    def _watch(self) -> None:
        """Tells what changes, and what is gone, until there is nothing left that could."""
        self._begin_stream("application/json")
        known = {thing["metadata"]["uid"]: thing for thing in self._selected()}
        sent = {uid: thing["metadata"]["resourceVersion"] for uid, thing in known.items()}
        while known:
            with self.kube.changed:
                self.kube.changed.wait(0.05)
            for uid in list(known):
                now = next((thing for thing in self._selected() if thing["metadata"]["uid"] == uid), None)
                if now is not None:
                    self._asked_for(now)
                if now is None:
                    self._send({"type": "DELETED", "object": known.pop(uid)})
                elif now["metadata"]["resourceVersion"] != sent[uid]:
                    sent[uid] = now["metadata"]["resourceVersion"]
                    self._send({"type": "MODIFIED", "object": now})
        self._end_stream()

    def _create(self, body: bytes) -> None:
        thing = json.loads(body)
        name = thing["metadata"]["name"]
        if self.namespace not in self.kube.namespaces:
            text = f'namespaces "{self.namespace}" not found'
            self._answer(404, failure(404, text, details={"name": self.namespace, "kind": "namespaces"}))
            return
        if wrong := self.kube.errors(thing):
            kind = thing["kind"]
            unknown = [problem for problem in wrong if "dditional properties" in problem]
            if unknown and self.query.get("fieldValidation") == "Strict":
                text = f'{kind} in version "{self.group}" cannot be handled as a {kind}: strict decoding error: unknown field '
                self._answer(400, failure(400, text + "; ".join(unknown)))
                return
            causes = [{"field": problem.partition(": ")[0], "message": problem.partition(": ")[2]} for problem in wrong]
            self._answer(422, failure(422, f'{kind} "{name}" is invalid', details={"name": name, "causes": causes}))
            return
        if (self.plural, self.namespace, name) in self.kube.objects:
            text = f'{self.plural} "{name}" already exists'
            details = {"name": name, "kind": self.plural}
            self._answer(409, failure(409, text, reason="AlreadyExists", details=details))
            return
        if self.query.get("dryRun") != "All":
            thing["metadata"]["namespace"] = self.namespace
            thing = self.kube.put(thing)
        self._answer(201, thing)

    def _delete(self, body: bytes) -> None:
        thing = self._found()
        if thing is None:
            return
        options = json.loads(body) if body else {}
        uid = thing["metadata"]["uid"]
        if (options.get("preconditions") or {}).get("uid", uid) != uid:
            self._answer(409, failure(409, "the UID in the precondition does not match the UID in record"))
            return
        if self.kube.linger:
            thing["metadata"]["deletionTimestamp"] = now()
            self.kube.put(thing)
        else:
            self.kube.forget(self.plural, self.namespace, self.name)
        details = {"name": self.name, "kind": self.plural, "uid": uid}
        self._answer(
            200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    def _patch(self, body: bytes) -> None:
        """A merge of objects; no lists."""
        thing = self._found()
        if thing is not None:
            self._answer(200, self.kube.put(merged(thing, json.loads(body))))

    def _review(self, review: Object) -> None:
        asked = review["spec"]["resourceAttributes"]
        plural = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        review["status"] = {"allowed": (asked["verb"], plural) not in self.kube.forbidden}
        self._answer(201, review)

    def _log(self) -> None:
        log = self.kube.logs.get(self.name)
        if self._found() is None:
            return
        if log is None:
            text = (
                f'container "{self.query.get("container")}" in pod "{self.name}" is waiting to start: ContainerCreating'
            )
            self._answer(400, failure(400, text))
            return
        since = self.query.get("sinceTime", "")[:19]  # whole seconds, as Kubernetes has them
        self._begin_stream("text/plain")
        place = 0
        while True:
            with self.kube.changed:
                new, over = log.lines[place:], log.over
                if not new and not over:
                    self.kube.changed.wait(0.2)
            for moment, line in new:
                place += 1
                if moment[:19] < since:
                    continue
                self._chunk(f"{moment} {line}\n" if self.query.get("timestamps") == "true" else f"{line}\n")
                if self.kube.cut_logs:
                    self.kube.cut_logs -= 1
                    self.close_connection = True
                    return
            if not new and (over or self.query.get("follow") != "true"):
                self._end_stream()
                return

    def _about(self, path: str) -> None:
        """What the server says of itself."""
        groups: dict[str, list[str]] = {}
        for version in self.kube.groups:
            if "/" in version:
                groups.setdefault(version.partition("/")[0], []).append(version)
        if path == "/version":
            self._answer(200, self.kube.version)
        elif path == "/api":
            self._answer(200, {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        elif path == "/apis":
            self._answer(
                200,
                {
                    "kind": "APIGroupList",
                    "apiVersion": "v1",
                    "groups": [_group(*group) for group in groups.items()],
                },
            )
        elif path.removeprefix("/apis/") in groups:
            self._answer(200, _group(path.removeprefix("/apis/"), groups[path.removeprefix("/apis/")]))
        elif (version := path.removeprefix("/apis/").removeprefix("/api/")) in self.kube.groups:
            verbs = ["create", "delete", "get", "list", "patch", "watch"]
            resources = [
                {
                    "name": plural,
                    "singularName": kind.lower(),
                    "kind": kind,
                    "namespaced": kind != "Namespace",
                    "verbs": verbs,
                }
                for plural, kind in self.kube.groups[version].items()
            ]
            self._answer(
                200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
            )
        elif path.removeprefix("/openapi/v3/apis/") in JOBSET and self.kube.jobset:
            self._answer(200, self.kube.openapi)
        else:
            self._answer(404, "404 page not found\n")

    def _answer(self, code: int, body: Object | str, headers: dict[str, str] | None = None) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def _begin_stream(self, content: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, event: Object) -> None:
        self._chunk(json.dumps(event) + "\n")

    def _end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")


def _group(name: str, versions: list[str]) -> Object:
    entries = [{"groupVersion": version, "version": version.partition("/")[2]} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": entries, "preferredVersion": entries[0]}
