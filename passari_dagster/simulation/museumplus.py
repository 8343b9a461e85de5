"""A simulated MuseumPlus: ria-ws over HTTP on loopback, with sessions, searches, items, files and writes.

In process for tests (`SimulatedMuseum`), or as a process of its own:
`python -m passari_dagster.simulation.museumplus --port 8765 --objects 200`. What it holds is in `museum_records` and
`museum_files`, how it looks in `museum_documents`, changes in `museum_store`, faults in `museum_faults`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hmac
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from passari_dagster import safe_xml
from passari_dagster.simulation import museum_documents, museum_records, museum_search
from passari_dagster.simulation.museum_documents import ENTITY_BOMB, MODULE_NS
from passari_dagster.simulation.museum_faults import FaultLayer, Faults, Hold, Point, Seen
from passari_dagster.simulation.museum_records import FIRST_ACTIVITY, USER, AttachmentFacts, Museum, ObjectFacts
from passari_dagster.simulation.museum_store import ModuleName, Row, Store

T = TypeVar("T")
_log = logging.getLogger(__name__)
BASE = "/ria-ws/application"
LIDO_TEMPLATE = 45005
LOG_FIELD = museum_records.LOG_FIELD
PASSWORD_VARIABLE = "PASSARI_SIMULATED_MUSEUM_PASSWORD"  # noqa: S105 - a name
_FIELD_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_$]*")
_ACTIVITIES_BEGIN = datetime(2015, 1, 1, tzinfo=timezone.utc)


class Keep:
    """The type of `KEEP`."""


KEEP = Keep()
"""Leave it as it is, where None means that there is none."""


class SimulatedMuseum:
    """A museum's MuseumPlus; start it, or use it in a `with` block.

    Arguments:
        objects: how many objects it has at first; they cost memory only when changed.
        seed: another seed, another museum.
        username, password: of the one user.
        data_dir: where changes outlive the process; None: they do not.
        port: 0 takes a free one.
        faults: knobs; turned at any time through the attribute.
        session_idle: seconds until an unused session is over.
        expired_status: the answer to a session key that is no (longer) good.
        clock_offset: seconds that its clock is ahead of this machine's.

    Attributes:
        url: base address, once started.
        sessions_opened: how many logins there were.
    """

    def __init__(
        self,
        *,
        objects: int = 200,
        seed: int = 1,
        username: str = "passari",
        password: str = "salasana",  # noqa: S107 - of a simulation
        data_dir: Path | None = None,
        port: int = 0,
        faults: Faults | None = None,
        session_idle: float = 600.0,
        expired_status: Literal[401, 403] = 401,
        clock_offset: float = 0.0,
    ) -> None:
        self.username = username
        self.password = password
        self.faults = faults or Faults(seed=seed)
        self.session_idle = session_idle
        self.expired_status = expired_status
        self.clock_offset = clock_offset
        self.sessions_opened = 0
        self.url = ""
        self.museum = Museum(objects, seed)
        self._port = port
        self._sessions: dict[str, float] = {}
        self._mutex = threading.RLock()
        self._store = Store(self.museum, data_dir)
        self._searcher = museum_search.Searcher(self._store)
        routes = [
            Route(f"{BASE}/session", self._session),
            Route(f"{BASE}/module/{{module}}/search", self._search, methods=["POST"]),
            Route(f"{BASE}/module/Multimedia/{{id:int}}/attachment", self._attachment),
            Route(f"{BASE}/module/Object/{{id:int}}/export/{{template:int}}", self._lido),
            Route(f"{BASE}/module/{{module}}/{{id:int}}", self._item),
            Route(f"{BASE}/module/Object/{{id:int}}/{{field}}", self._put_field, methods=["PUT"]),
            Route("/simulation/objects/{id:int}/edit", self._edit, methods=["POST"]),
        ]
        self._layer = FaultLayer(Starlette(routes=routes), lambda: self.faults, BASE)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    # Running

    def start(self) -> SimulatedMuseum:
        """Listen, in a thread of its own; returns when requests are answered."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}{BASE}"
        config = uvicorn.Config(
            self._application,
            http=_Protocol,
            interface="asgi3",
            ws="none",
            proxy_headers=False,
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listener])), name="simulated MuseumPlus", daemon=True
        )
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the simulated MuseumPlus did not start")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Release what is held, answer what is under way, and close."""
        for hold in self._layer.holds:
            hold.release()
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(timeout=10)
            self._server = self._thread = None
        self._store.close()

    def __enter__(self) -> SimulatedMuseum:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Looking

    @property
    def object_ids(self) -> range:
        """Ids of the objects that were there at first."""
        return range(1_000_000, 1_000_000 + self.museum.size)

    @property
    def requests(self) -> list[Seen]:
        """The last requests, oldest first."""
        return list(self._layer.requests)

    @property
    def peak_requests(self) -> int:
        """Most requests that were being answered at once."""
        return self._layer.peak

    def count(self, path_contains: str, method: str = "") -> int:
        """How many of the last requests fit."""
        return sum(path_contains in r.path and method in ("", r.method) for r in self.requests)

    def now(self) -> datetime:
        """Its own clock."""
        moment = datetime.now(timezone.utc) + timedelta(seconds=self.clock_offset)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def object(self, object_id: int) -> ObjectFacts:
        """An object as it is now. Raises KeyError if there is none."""
        return _there(self._store.object(object_id), object_id)

    def attachment(self, multimedia_id: int) -> AttachmentFacts:
        """An attachment as it is now. Raises KeyError if there is none."""
        return _there(self._store.attachment(multimedia_id), multimedia_id)

    def has_file(self, multimedia_id: int) -> bool:
        """Whether an attachment has a file. Raises KeyError if there is no such attachment."""
        return self._store.has_file(self.attachment(multimedia_id))

    def changed(self, module: ModuleName) -> list[Row]:
        """What was edited, added or taken away since the beginning."""
        return self._store.changed(module, 0)

    def attachment_content(self, multimedia_id: int) -> bytes | None:
        """The file of an attachment; None if it has none."""
        content = self._store.content(multimedia_id)
        return content.read_bytes() if isinstance(content, Path) else content

    def field(self, object_id: int, name: str) -> str | None:
        """The text of a data field that was written."""
        return self.object(object_id).fields.get(name)

    def log_field(self, object_id: int, name: str = LOG_FIELD) -> list[dict[str, Any]]:
        """The entries of the preservation log field; none if it was never written."""
        entries: list[dict[str, Any]] = json.loads(self.field(object_id, name) or "[]")
        return entries

    # Changing

    def add_object(
        self,
        *,
        title: str = "Lisätty esine",
        created: datetime | Keep | None = KEEP,
        created_user: str = USER,
        modified: datetime | Keep | None = KEEP,
        attachments: Sequence[tuple[str, bytes | Path | None]] = (),
        activity_ids: Sequence[int] = (),
    ) -> int:
        """A new object; answers its id.

        Arguments:
            created, modified: now, if not given; None: no date.
            attachments: names and contents of its files.
        """
        with self._mutex:
            object_id = self._store.new_id("Object")
            made = self.now() if isinstance(created, Keep) else created
            changed = made if isinstance(modified, Keep) else modified
            multimedia_ids = []
            for filename, content in attachments:
                multimedia_id = self._store.new_id("Multimedia")
                self._store.save_attachment(
                    AttachmentFacts(multimedia_id, object_id, filename, made, created_user, changed, None)
                )
                self._store.save_content(multimedia_id, content)
                multimedia_ids.append(multimedia_id)
            self._store.save_object(
                ObjectFacts(
                    id=object_id,
                    title=title,
                    created=made,
                    created_user=created_user,
                    modified=changed,
                    multimedia_ids=tuple(multimedia_ids),
                    activity_ids=tuple(activity_ids),
                )
            )
            return object_id

    def edit_object(
        self,
        object_id: int,
        *,
        title: str | None = None,
        created: datetime | Keep | None = KEEP,
        created_user: str | None = None,
        modified: datetime | Keep | None = KEEP,
        multimedia_ids: Sequence[int] | None = None,
        activity_ids: Sequence[int] | None = None,
        fields: dict[str, str] | None = None,
        truncated: bool | None = None,
    ) -> ObjectFacts:
        """Change an object, as somebody in the museum would. Raises KeyError if there is none.

        Arguments:
            created, modified: None: no date; `modified` is now, if not given.
            fields: data fields to set, besides those set before.
            truncated: whether only system fields are answered.
        """
        with self._mutex:
            old = self.object(object_id)
            new = replace(
                old,
                title=old.title if title is None else title,
                created=old.created if isinstance(created, Keep) else created,
                created_user=old.created_user if created_user is None else created_user,
                modified=self.now() if isinstance(modified, Keep) else modified,
                multimedia_ids=old.multimedia_ids if multimedia_ids is None else tuple(multimedia_ids),
                activity_ids=old.activity_ids if activity_ids is None else tuple(activity_ids),
                fields={**old.fields, **(fields or {})},
                truncated=old.truncated if truncated is None else truncated,
            )
            self._store.save_object(new)
            return new

    def delete_object(self, object_id: int) -> None:
        """Take an object away. Raises KeyError if there is none."""
        with self._mutex:
            self._store.save_object(replace(self.object(object_id), deleted=True))

    def set_attachment(
        self,
        multimedia_id: int,
        *,
        filename: str | None = None,
        content: bytes | Path | Keep | None = KEEP,
        modified: datetime | Keep | None = KEEP,
    ) -> AttachmentFacts:
        """Change an attachment. Raises KeyError if there is none.

        Arguments:
            filename: the original file name; an empty one: MuseumPlus has no name.
            content: of its file, or where to read it at each download; None: there is no file.
            modified: now, if not given; None: no date.
        """
        with self._mutex:
            old = self.attachment(multimedia_id)
            new = replace(
                old,
                filename=old.filename if filename is None else filename,
                modified=self.now() if isinstance(modified, Keep) else modified,
            )
            self._store.save_attachment(new)
            if not isinstance(content, Keep):
                self._store.save_content(multimedia_id, content)
            return new

    def restore_object(self, facts: ObjectFacts) -> None:
        """Bring an object back that was taken away, as it was then."""
        with self._mutex:
            self._store.save_object(replace(facts, deleted=False))

    def delete_attachment(self, multimedia_id: int) -> None:
        """Take an attachment away, and from its object. Raises KeyError if there is none."""
        with self._mutex:
            old = self.attachment(multimedia_id)
            self._store.save_attachment(replace(old, deleted=True))
            owner = self._store.object(old.object_id)
            if owner is not None:
                left = [other for other in owner.multimedia_ids if other != multimedia_id]
                self.edit_object(owner.id, multimedia_ids=left)

    def bomb(self, object_id: int) -> None:
        """Answer a document full of nested entities for this object from now on."""
        self.faults.replace_body(f"/module/Object/{object_id}", ENTITY_BOMB)

    def expire_sessions(self) -> None:
        """All session keys are over."""
        with self._mutex:
            self._sessions.clear()

    def hold(self, predicate: Callable[[Seen], bool], *, at: Point = "request") -> Hold:
        """Stop requests that fit, at a place, until the answered `Hold` is released."""
        hold = Hold(predicate, at)
        self._layer.holds.append(hold)
        return hold

    # Answering

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Any) -> None:
            if message["type"] == "http.response.start":
                date = (b"date", format_datetime(self.now().replace(microsecond=0), usegmt=True).encode())
                message = {**message, "headers": [*message.get("headers", []), date]}
            await send(message)

        try:
            await self._layer(scope, receive, dated)
        except ClientDisconnect:
            _log.info("a client left while it was asking for %s", scope.get("path"))
        except Exception:  # uvicorn, which would say so, is silenced: it complains of each fault made on purpose
            _log.exception("the simulated MuseumPlus failed at %s", scope.get("path"))
            raise

    def _refused(self, request: Request) -> Response | None:
        """None if the session is good."""
        user, key = _credentials(request, "session")
        with self._mutex:
            used = self._sessions.get(key)
            if used is None or user != self.username or time.monotonic() - used > self.session_idle:
                self._sessions.pop(key, None)
                return Response(status_code=self.expired_status)
            self._sessions[key] = time.monotonic()
        return None

    async def _session(self, request: Request) -> Response:
        user, password = _credentials(request, "password")
        if user != self.username or not hmac.compare_digest(password.encode(), self.password.encode()):
            return Response(status_code=401)
        key = secrets.token_hex(16)
        with self._mutex:
            self._sessions[key] = time.monotonic()
            self.sessions_opened += 1
        return _xml(museum_documents.session(key))

    async def _search(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        module = request.path_params["module"]
        if module not in ("Object", "Multimedia"):
            return Response(status_code=404)
        body = await request.body()
        return await run_in_threadpool(self._found, cast("ModuleName", module), body)

    def _found(self, module: ModuleName, body: bytes) -> Response:
        try:
            ids, total = self._searcher.run(module, museum_search.parse(body, module))
        except museum_search.BadSearchError as error:
            return Response(str(error), status_code=400)
        items = (self._item_text(module, item) for item in ids)
        return _xml(museum_documents.module(module, (item for item in items if item is not None), total))

    def _item_text(self, module: str, item_id: int) -> str | None:
        if module == "Object":
            found = self._store.object(item_id)
            return museum_documents.object_item(found) if found else None
        if module == "Multimedia":
            attachment = self._store.attachment(item_id)
            if attachment is None:
                return None
            return museum_documents.attachment_item(attachment, has_file=self._store.has_file(attachment))
        if module == "CollectionActivity" and 0 <= item_id - FIRST_ACTIVITY <= self.museum.size // 10:
            created = _ACTIVITIES_BEGIN + timedelta(hours=(item_id - FIRST_ACTIVITY) % 20_000)
            return museum_documents.activity_item(item_id, created)
        return None

    async def _item(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        module = request.path_params["module"]
        item = self._item_text(module, request.path_params["id"])
        return _xml(museum_documents.module(module, [item], 1)) if item else Response(status_code=404)

    async def _attachment(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        multimedia_id = request.path_params["id"]
        content = self._store.content(multimedia_id) if self._store.attachment(multimedia_id) else None
        if content is None:
            return Response(status_code=404)
        if isinstance(content, Path):
            return FileResponse(content, media_type="application/octet-stream")
        return Response(content, media_type="application/octet-stream")

    async def _lido(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        found = self._store.object(request.path_params["id"])
        if found is None or request.path_params["template"] != LIDO_TEMPLATE:
            return Response(status_code=404)
        return _xml(museum_documents.lido(found))

    async def _put_field(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        object_id, name = request.path_params["id"], request.path_params["field"]
        body = await request.body()
        value = _field_value(body, object_id, name)
        if value is None:
            return Response(f"not a document that sets {name} of Object {object_id}", status_code=400)
        try:
            self.edit_object(object_id, fields={name: value})
        except KeyError:
            return Response(status_code=404)
        return Response(status_code=204)

    async def _edit(self, request: Request) -> Response:
        """Not of MuseumPlus: somebody in the museum changes a title. Body: `{"title": …}`, or none."""
        body = await request.body()
        try:
            title = json.loads(body).get("title") if body else None
            edited = self.edit_object(
                request.path_params["id"], title=str(title) if title else f"Muokattu {self.now():%d.%m.%Y %H:%M:%S}"
            )
        except KeyError:
            return Response(status_code=404)
        except (ValueError, AttributeError):
            return Response('expected a body such as {"title": "…"}', status_code=400)
        return JSONResponse({"id": edited.id, "title": edited.title})


class _Protocol(H11Protocol):
    """Lets the fault layer end the connection that a request came by."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        application = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), "simulation.transport": transport}
            await application(scope, receive, send)

        self.app = with_transport
        super().connection_made(transport)


def _there(found: T | None, item_id: int) -> T:
    if found is None:
        raise KeyError(item_id)
    return found


def _xml(document: bytes) -> Response:
    return Response(document, media_type="application/xml")


def _credentials(request: Request, kind: str) -> tuple[str, str]:
    """User and password, or user and session key, of a Basic login `user[…]:kind[…]`; empty if there are none."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        text = base64.b64decode(encoded, validate=True).decode() if scheme == "Basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    match = re.fullmatch(rf"user\[(.*?)\]:{kind}\[(.*)\]", text, re.DOTALL)
    return (match[1], match[2]) if match else ("", "")


def _field_value(body: bytes, object_id: int, name: str) -> str | None:
    """The value that a document gives to a field; None if the document is not right."""
    if not _FIELD_NAME.fullmatch(name):
        return None
    try:
        root = safe_xml.parse(body, source="field document")
    except safe_xml.UnsafeXmlError:
        return None
    ns = f"{{{MODULE_NS}}}"
    items = root.findall(f"{ns}modules/{ns}module[@name='Object']/{ns}moduleItem")
    fields = items[0].findall(f"{ns}dataField") if len(items) == 1 and items[0].get("id") == str(object_id) else []
    if root.tag != f"{ns}application" or len(fields) != 1 or fields[0].get("name") != name:
        return None
    return fields[0].findtext(f"{ns}value", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; runs until SIGTERM or SIGINT. The first line of its output is the base address."""
    parser = argparse.ArgumentParser(prog="python -m passari_dagster.simulation.museumplus", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--username", default="passari")
    parser.add_argument(
        "--password-file", type=Path, help=f"file with the password; without it ${PASSWORD_VARIABLE}, else salasana"
    )
    parser.add_argument("--data-dir", type=Path, help="where changes are kept")
    parser.add_argument("--session-idle", type=float, default=600.0, help="seconds")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--slow-body", type=float, default=0.0, help="seconds that each body takes")
    for fault in ("error", "cut", "short", "drop"):
        parser.add_argument(f"--{fault}-rate", type=float, default=0.0, help="share of requests, 0 to 1")
    given = parser.parse_args(arguments)
    password = (
        given.password_file.read_text(encoding="utf-8").strip()
        if given.password_file
        else os.environ.get(PASSWORD_VARIABLE, "salasana")
    )
    museum = SimulatedMuseum(
        objects=given.objects,
        seed=given.seed,
        username=given.username,
        password=password,
        data_dir=given.data_dir,
        port=given.port,
        session_idle=given.session_idle,
        faults=Faults(
            latency=given.latency,
            slow_body=given.slow_body,
            error_rate=given.error_rate,
            cut_rate=given.cut_rate,
            short_rate=given.short_rate,
            drop_rate=given.drop_rate,
            seed=given.seed,
        ),
    )
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with museum:
        sys.stdout.write(f"{museum.url}\n")
        sys.stdout.flush()
        over.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
