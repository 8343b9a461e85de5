"""The REST interfaces 2.0 and 3.0 of the simulated DPS: verdicts and reports, searches and DIPs. TUS is left out."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import hmac
import json
import re
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from passari_dagster.simulation.dps_dips import FORMATS, Dip
from passari_dagster.simulation.dps_store import Store, Transfer

MAX_LIMIT = 1000
_MEDIA = {"xml": "application/xml", "html": "text/html"}


def application(store: Store, user: str, password: str) -> Starlette:
    """The ASGI application.

    Arguments:
        store: what the DPS knows.
        user: who may ask.
        password: of the user.
    """
    credentials = b"Basic " + base64.b64encode(f"{user}:{password}".encode())

    async def answer(request: Request) -> Response:
        await asyncio.sleep(store.faults.latency)
        if store.faults.rest_failures > 0:
            store.faults.rest_failures -= 1
            return _fail(500, "Internal server error")
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), credentials):
            return _fail(401, "Unauthorized")
        # Split before decoding: an OBJID may hold a %2F.
        segments = [unquote(part) for part in request.scope["raw_path"].decode("ascii").split("/")[1:]]
        if segments[:1] == ["api"] and segments[2:3] == [store.contract_id]:
            about_dips = await _dips(store, request, segments[1], segments[3:])
            if about_dips is not None:
                return about_dips
        return _dispatch(store, request, segments)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST", "DELETE"])])


async def _dips(store: Store, request: Request, version: str, segments: list[str]) -> Response | None:
    """Preserved packages and DIPs; None: it is about something else."""
    dip = store.dips.find(segments[1]) if segments[:1] == ["disseminated"] and segments[1:] else None
    match (request.method, version, segments):
        case ("GET", "2.0", ["preserved", aip_id]) if _preserved(store, aip_id):
            link = f"/api/2.0/{store.contract_id}/preserved/{aip_id}/disseminate"
            return _success({"actions": {"disseminate": link}})
        case ("GET", "3.0", ["preserved", aip_id, "files"]) if _preserved(store, aip_id):
            return _page(request, [{"filepath": "file:///mets.xml", "file_id": "mets"}], ("previous", "next"))
        case ("POST", "2.0", ["preserved", aip_id, "disseminate"]):
            return await _disseminate(store, version, aip_id, request.query_params.get("format", "zip"), status=200)
        case ("POST", "3.0", ["preserved", "disseminate"]):
            try:
                wanted = json.loads(await request.body())
                (aip,) = wanted["aips"]
            except (ValueError, KeyError, TypeError):
                return _fail(400, "aips is a list of one package")
            return await _disseminate(store, version, aip["aip_id"], wanted.get("format", "zip"), status=202)
        case ("GET", _, ["disseminated", _]) if dip is not None:
            return _success(_dip(store, dip, version))
        case ("GET", _, ["disseminated", _, "download"]) if dip is not None and store.dips.is_ready(dip):
            return _Body(store, dip)
        case ("DELETE", _, ["disseminated", _]) if dip is not None:
            store.dips.delete(dip)
            return Response(status_code=204) if version == "3.0" else _success({"deleted": "true"})
        case (_, _, ["preserved" | "disseminated", *_]):
            return _fail(404, "Not found")
    return None


async def _disseminate(store: Store, version: str, aip_id: str, archive: str, *, status: int) -> Response:
    package = _preserved(store, aip_id)
    if package is None:
        return _fail(404, "No such package")
    if archive not in FORMATS:
        return _fail(400, "format is zip or tar")
    dip = await asyncio.to_thread(store.dips.make, aip_id, store.received / package.received, archive)
    link = f"/api/{version}/{store.contract_id}/disseminated/{dip.dip_id}"
    return JSONResponse({"status": "success", "data": {"disseminated": link}}, status_code=status)


def _dip(store: Store, dip: Dip, version: str) -> dict[str, Any]:
    ready = store.dips.is_ready(dip)
    link = f"/api/{version}/{store.contract_id}/disseminated/{dip.dip_id}/download"
    actions = {"download": link} if ready else {}
    if version == "2.0":
        return {"complete": "true" if ready else "false", "actions": actions}
    return {
        "dip_id": dip.dip_id,
        "complete": ready,
        "actions": actions,
        "dip": {"dip_name": dip.aip_id},
        "timestamp": dip.timestamp,
    }


class _Body(FileResponse):
    """A DIP on its way out, in ranges; or as the knobs want it."""

    def __init__(self, store: Store, dip: Dip) -> None:
        self._faults = store.faults
        super().__init__(
            store.dips.file(dip), media_type="application/octet-stream", filename=f"{dip.aip_id}.{dip.archive}"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        faults, sent = self._faults, 0
        cut = faults.dip_cut_after_bytes if faults.dip_cuts > 0 else 0
        faults.dip_cuts -= cut > 0
        if faults.dip_no_ranges:
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != b"range"]}

        async def counted(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start" and faults.dip_no_ranges:
                hidden = (b"etag", b"accept-ranges", b"last-modified")
                message["headers"] = [header for header in message["headers"] if header[0] not in hidden]
            body = message.get("body", b"")
            if cut and sent + len(body) > cut:
                await send({**message, "body": body[: cut - sent], "more_body": True})
                raise ConnectionAbortedError("a fault knob cuts this answer")
            sent += len(body)
            await send(message)

        await super().__call__(scope, receive, counted)


def _dispatch(store: Store, request: Request, segments: list[str]) -> Response:
    contract = store.contract_id
    if segments[:1] != ["api"] or segments[2:3] != [contract]:
        return _fail(404, "Not found")
    by_id = {transfer.transfer_id: transfer for transfer in store.transfers()}
    match (request.method, segments[1], segments[3:]):
        case ("GET", "2.0", ["search"]):
            found = _search(store, request.query_params.get("q", ""))
            kept = ("id", "pkg_type", "createdate", "lastmoddate", "location")
            return _page(request, [{key: aip[key] for key in kept} for aip in found], ("prev", "next"))
        case ("GET", "3.0", ["search"]):
            found = _search(store, request.query_params.get("q", ""))
            kept = ("aip_id", "content_id", "createdate", "lastmoddate", "location")
            return _page(request, [{key: aip[key] for key in kept} for aip in found], ("previous", "next"))
        case ("GET", "2.0", ["ingest", "report", objid]):
            results = [_result_v2(contract, t) for t in _judged(by_id.values()) if t.objid == objid]
            return _success({"results": results}) if results else _fail(404, "No reports")
        case ("GET", "2.0", ["ingest", "report", objid, transfer_id]):
            transfer = by_id.get(transfer_id)
            if transfer is None or transfer.objid != objid:
                return _fail(404, "No such report")
            return _report(store, transfer, request)
        case ("GET", "2.0", ["statistics", "overview"]):
            return _success(_statistics(store))
        case ("GET", "3.0", ["transfers"]):
            status = request.query_params.get("status")
            wanted = [t for t in reversed(by_id.values()) if status in (None, t.status)]
            return _page(request, [_transfer_v3(contract, t) for t in wanted], ("previous", "next"))
        case (method, "3.0", ["transfers", transfer_id]) if transfer_id in by_id:
            if method == "DELETE":
                store.delete(by_id[transfer_id])
                return Response(status_code=204)
            return _success(_transfer_v3(contract, by_id[transfer_id]))
        case ("GET", "3.0", ["transfers", transfer_id, "report"]) if transfer_id in by_id:
            return _report(store, by_id[transfer_id], request)
    return _fail(404, "Not found")


def _result_v2(contract: str, transfer: Transfer) -> dict[str, Any]:
    link = f"/api/2.0/{contract}/ingest/report/{quote(transfer.objid, safe='')}/{quote(transfer.transfer_id)}"
    return {
        "id": transfer.transfer_id,
        "date": transfer.when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": transfer.status,
        "download": {"html": f"{link}?type=html", "xml": f"{link}?type=xml"},
    }


def _transfer_v3(contract: str, transfer: Transfer) -> dict[str, Any]:
    judged = transfer.status != "in_progress"
    link = f"/api/3.0/{contract}/transfers/{quote(transfer.transfer_id)}/report"
    return {
        "transfer_id": transfer.transfer_id,
        "filename": transfer.name,
        "status": transfer.status,
        "timestamp": email.utils.format_datetime(transfer.when, usegmt=True),
        "sip": {"sip_id": transfer.objid, "sip_size": transfer.size} if judged else {},
        "actions": {"report": link} if judged else {},
    }


def _search(store: Store, query: str) -> list[dict[str, Any]]:
    """AIPs that match: `OBJID:x` and `pkg_type:x` terms joined by AND, or a bare word of the OBJID."""
    found = []
    for objid, transfers in store.ingested().items():
        aip_id = _aip_id(store, objid)
        aip = {
            "id": aip_id,
            "aip_id": aip_id,
            "pkg_type": "AIP",
            "content_id": transfers[-1].contentid,
            "createdate": transfers[0].time,
            "lastmoddate": transfers[-1].time,
        }
        aip["location"] = f"/api/2.0/{store.contract_id}/preserved/{aip['id']}"
        terms = [term for term in re.split(r"\s+(?:AND\s+)?", query.strip()) if term]
        if all(_matches(term, objid, aip) for term in terms):
            found.append(aip)
    return found


def _aip_id(store: Store, objid: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{store.contract_id}/{objid}"))


def _preserved(store: Store, aip_id: str) -> Transfer | None:
    """The newest accepted transfer of a package."""
    return next((found[-1] for objid, found in store.ingested().items() if _aip_id(store, objid) == aip_id), None)


def _matches(term: str, objid: str, aip: dict[str, Any]) -> bool:
    key, colon, value = term.partition(":")
    value = value.strip('"').replace("\\", "")
    if not colon or key not in ("OBJID", "pkg_type", "id"):
        return term.strip('"') in objid or term == "*:*"
    actual = objid if key == "OBJID" else aip[key]
    return actual.startswith(value[:-1]) if value.endswith("*") else actual == value


def _statistics(store: Store) -> dict[str, Any]:
    ingested = store.ingested()
    accepted = [transfer for transfers in ingested.values() for transfer in transfers]
    used = sum(transfer.size for transfer in accepted)
    return {
        "capacity": {"used": used, "available": 10**13 - used, "total": 10**13},
        "key_figures": {"sips_accepted": len(accepted), "objects_preserved": len(ingested)},
    }


def _judged(transfers: Any) -> list[Transfer]:
    return [transfer for transfer in transfers if transfer.status != "in_progress"]


def _report(store: Store, transfer: Transfer, request: Request) -> Response:
    kind = request.query_params.get("type", "xml")
    path = store.report(transfer, kind) if kind in _MEDIA and transfer.status != "in_progress" else None
    return FileResponse(path, media_type=_MEDIA[kind]) if path is not None else _fail(404, "No such report")


def _page(request: Request, items: Sequence[dict[str, Any]], names: tuple[str, str]) -> Response:
    query = dict(request.query_params)
    try:
        page = max(1, int(query.get("page", 1)))
        limit = min(MAX_LIMIT, max(1, int(query.get("limit", 20))))
    except ValueError:
        return _fail(400, "page and limit are numbers")

    def link(number: int) -> str:
        return f"{request.url.path}?{urlencode({**query, 'page': number, 'limit': limit})}"

    links = {"self": link(page)}
    if page > 1:
        links[names[0]] = link(page - 1)
    if page * limit < len(items):
        links[names[1]] = link(page + 1)
    return _success({"results": list(items[(page - 1) * limit : page * limit]), "links": links})


def _success(data: dict[str, Any]) -> Response:
    return JSONResponse({"status": "success", "data": data})


def _fail(status: int, message: str) -> Response:
    return JSONResponse({"status": "fail", "message": message}, status_code=status)
