"""The REST interfaces 2.0 and 3.0 of the simulated DPS, as far as verdicts, reports and searches need them."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import hmac
import re
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

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
        return _dispatch(store, request, segments)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "DELETE"])])


def _dispatch(store: Store, request: Request, segments: list[str]) -> Response:
    contract = store.contract_id
    if segments[:1] != ["api"] or segments[2:3] != [contract]:
        return _fail(404, "Not found")
    by_id = {transfer.transfer_id: transfer for transfer in store.transfers()}
    match (request.method, segments[1], segments[3:]):
        case ("GET", "2.0", ["search"]):
            found = _search(store, request.query_params.get("q", ""))
            return _page(request, found, ("prev", "next"))
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
        aip = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{store.contract_id}/{objid}")),
            "pkg_type": "AIP",
            "createdate": transfers[0].time,
            "lastmoddate": transfers[-1].time,
        }
        aip["location"] = f"/api/2.0/{store.contract_id}/preserved/{aip['id']}"
        terms = [term for term in re.split(r"\s+(?:AND\s+)?", query.strip()) if term]
        if all(_matches(term, objid, aip) for term in terms):
            found.append(aip)
    return found


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
