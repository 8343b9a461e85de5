"""What can be made to go wrong in the simulated MuseumPlus, and places where a request can be stopped.

Only the knobs, and the layer that turns answers bad on their way out; what good answers hold is known elsewhere.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    # The demo reads the knobs before it is known whether its servers are installed.
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Fault = Literal["error", "cut", "short", "drop"]
"""`error`: status 500. `cut`: half of the body, then the connection ends. `short`: half of the body as if it were
the whole. `drop`: the connection ends without an answer."""
Point = Literal["request", "answer", "body"]
"""Where to hold: before anything is done, after all is done and before the answer, after half of the body."""

_PIECES = 4


@dataclass(frozen=True)
class Seen:
    """A request, for predicates. The path is that after the base address, such as `/module/Object/1000000`."""

    method: str
    path: str


@dataclass
class _Planned:
    times: int
    path_contains: str
    method: str
    fault: Fault
    status: int


@dataclass
class Faults:
    """Knobs; each may be turned at any time.

    Arguments:
        latency: seconds before each answer.
        slow_body: seconds that each body takes, in a few pieces.
        error_rate, cut_rate, short_rate, drop_rate: share (0 to 1) of requests that go wrong in that way.
        path_contains: the rates apply to requests whose path has this in it.
        seed: makes the random faults the same each time.
    """

    latency: float = 0.0
    slow_body: float = 0.0
    error_rate: float = 0.0
    cut_rate: float = 0.0
    short_rate: float = 0.0
    drop_rate: float = 0.0
    path_contains: str = ""
    seed: int = 0
    _planned: list[_Planned] = field(default_factory=list, repr=False)
    _bodies: dict[str, tuple[bytes, int | None]] = field(default_factory=dict, repr=False)
    _mutex: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def fail_next(
        self,
        times: int = 1,
        *,
        path_contains: str = "",
        method: str = "",
        fault: Fault = "error",
        status: int = 500,
    ) -> None:
        """Let the next requests that fit go wrong; `status` is that of an `error`."""
        with self._mutex:
            self._planned.append(_Planned(times, path_contains, method, fault, status))

    def replace_body(self, path: str, body: bytes | None, *, times: int | None = None) -> None:
        """Answer these bytes under exactly this path from now on, or so many times; None: the true ones again."""
        with self._mutex:
            if body is None:
                self._bodies.pop(path, None)
            else:
                self._bodies[path] = body, times

    def replaced_body(self, path: str) -> bytes | None:
        """What `replace_body` said; to be asked once for each answer."""
        with self._mutex:
            body, times = self._bodies.pop(path, (None, None))
            if body is not None and times != 1:
                self._bodies[path] = body, times and times - 1
            return body

    def draw(self, request: Seen) -> tuple[Fault, int] | None:
        """What goes wrong with this request, and the status if it is an `error`; None: nothing."""
        with self._mutex:
            self._planned = [plan for plan in self._planned if plan.times]
            for plan in self._planned:
                if plan.path_contains in request.path and plan.method in ("", request.method):
                    plan.times -= 1
                    return plan.fault, plan.status
            if self.path_contains not in request.path:
                return None
            drawn = self._random.random()
            rates: tuple[tuple[Fault, float], ...] = (
                ("error", self.error_rate),
                ("cut", self.cut_rate),
                ("short", self.short_rate),
                ("drop", self.drop_rate),
            )
            for fault, rate in rates:
                if drawn < rate:
                    return fault, 500
                drawn -= rate
            return None


class Hold:
    """A place where requests stand until `release`; made by `SimulatedMuseum.hold`.

    Attributes:
        reached: set when the first request stands there.
    """

    def __init__(self, predicate: Callable[[Seen], bool], point: Point) -> None:
        self.reached = threading.Event()
        self._predicate = predicate
        self._point = point
        self._released = threading.Event()

    def release(self) -> None:
        """Let the requests, and all later ones, pass."""
        self._released.set()

    async def pass_by(self, request: Seen, point: Point) -> None:
        """Wait here if this is the place."""
        if self._released.is_set() or point != self._point or not self._predicate(request):
            return
        self.reached.set()
        while not self._released.is_set():
            await asyncio.sleep(0.01)


class FaultLayer:
    """ASGI middleware: counts requests, holds them, and spoils their answers.

    Attributes:
        requests: the last ten thousand.
        active: requests being answered now.
        peak: most requests at once.
    """

    def __init__(self, app: ASGIApp, faults: Callable[[], Faults], base: str) -> None:
        self._app = app
        self._faults = faults
        self._base = base
        self.holds: list[Hold] = []
        self.requests: deque[Seen] = deque(maxlen=10_000)
        self.active = 0
        self.peak = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._base):
            await self._app(scope, receive, send)
            return
        request = Seen(scope["method"], scope["path"].removeprefix(self._base))
        self.requests.append(request)
        self.active += 1
        self.peak = max(self.peak, self.active)
        answer = _Answer(self, request, self._faults(), send)
        try:
            await answer.make(self._app, scope, receive)
        finally:
            answer.leave()


class _Answer:
    """One answer on its way out."""

    def __init__(self, layer: FaultLayer, request: Seen, faults: Faults, send: Send) -> None:
        self._layer = layer
        self._request = request
        self._faults = faults
        self._send = send
        self._fault: Fault | None = None
        self._left = False
        self._sent = 0
        self._half: int | None = None
        self._over = False

    def leave(self) -> None:
        """The request counts no more."""
        if not self._left:
            self._left = True
            self._layer.active -= 1

    async def make(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        drawn = self._faults.draw(self._request)
        await self._hold("request")
        if self._faults.latency:
            await asyncio.sleep(self._faults.latency)
        if drawn:
            self._fault = drawn[0]
        if self._fault == "error":
            await self._plain(drawn[1] if drawn else 500, b"")
        elif self._fault == "drop":
            scope["extensions"]["simulation.transport"].abort()
            await receive_disconnect(receive)
        elif (body := self._faults.replaced_body(self._request.path)) is not None:
            await self._plain(200, body)
        else:
            await app(scope, receive, self.pass_on)

    async def _plain(self, status: int, body: bytes) -> None:
        headers = [(b"content-type", b"application/xml"), (b"content-length", str(len(body)).encode())]
        await self.pass_on({"type": "http.response.start", "status": status, "headers": headers})
        await self.pass_on({"type": "http.response.body", "body": body, "more_body": False})

    async def _hold(self, point: Point) -> None:
        for hold in list(self._layer.holds):
            await hold.pass_by(self._request, point)

    async def pass_on(self, message: Message) -> None:
        """`send` for the application."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            await self._hold("answer")
            headers = dict(message["headers"])
            length = int(headers.get(b"content-length", b"0"))
            self._half = length // 2
            if self._fault == "short":
                headers[b"content-length"] = str(self._half).encode()
            await self._send({**message, "headers": list(headers.items())})
        else:
            await self._body(message.get("body", b""), more=message.get("more_body", False))

    async def _body(self, body: bytes, *, more: bool) -> None:
        half = self._half or 0
        if self._sent < half <= self._sent + len(body) or (half == 0 and not more):
            first, body = body[: half - self._sent], body[half - self._sent :]
            await self._first_half(first)
            self._sent = half
            await self._hold("body")
            if self._fault in ("cut", "short"):
                self._over = True
                # Left unfinished, the server ends the connection.
                if self._fault == "short":
                    await self._finish(b"")
                return
        self._sent += len(body)
        if more:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        else:
            await self._finish(body)

    async def _first_half(self, body: bytes) -> None:
        pieces = _PIECES if self._faults.slow_body else 1
        step = -(-len(body) // pieces) or 1
        for at in range(0, max(len(body), 1), step):
            await self._send({"type": "http.response.body", "body": body[at : at + step], "more_body": True})
            if self._faults.slow_body:
                await asyncio.sleep(self._faults.slow_body / pieces)

    async def _finish(self, body: bytes) -> None:
        # Before the last byte goes: the client may send its next request as soon as it has it.
        self.leave()
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


async def receive_disconnect(receive: Receive) -> None:
    """Wait until the server knows that the connection is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
