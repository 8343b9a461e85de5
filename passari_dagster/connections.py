"""How connections to PostgreSQL and Redis notice that a host is gone without a word: its cable is out, or its power.

TCP by itself notices after a quarter of an hour if something was sent, and after two hours if not. Until then a client
waits for an answer; and a server keeps what the client had: above all PostgreSQL the rows that were locked in an open
transaction, for which everybody else waits.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from sqlalchemy import Engine, event, make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

IDLE, INTERVAL, PROBES = 10, 5, 4
"""Seconds of silence until the other end is asked whether it is there, seconds between two questions, and how many."""
NOTICED = IDLE + INTERVAL * PROBES
"""Seconds after which a connection has ended, at both ends; one that is cut for a shorter time goes on."""
PING_AFTER = 0.25
"""Seconds after which a kept connection is asked whether it lives before it is used: no server has restarted sooner."""

_REDIS_KEEPALIVE = {
    socket.TCP_KEEPIDLE: IDLE,
    socket.TCP_KEEPINTVL: INTERVAL,
    socket.TCP_KEEPCNT: PROBES,
    socket.TCP_USER_TIMEOUT: NOTICED * 1000,
}
_OURS = {
    "connect_timeout": 15,
    "keepalives_idle": IDLE,
    "keepalives_interval": INTERVAL,
    "keepalives_count": PROBES,
    "tcp_user_timeout": NOTICED * 1000,
}
_THE_SERVERS = {
    "tcp_keepalives_idle": IDLE,
    "tcp_keepalives_interval": INTERVAL,
    "tcp_keepalives_count": PROBES,
    "tcp_user_timeout": NOTICED * 1000,
}


def postgres_arguments(url: str, application_name: str, **parameters: str) -> dict[str, Any]:
    """The `connect_args` of an engine. What the URL itself says goes before.

    Arguments:
        url: of the database, for SQLAlchemy.
        application_name: for those who look who is connected.
        parameters: further ones of the session, such as `jit="off"`.
    """
    parsed = make_url(url)
    arguments = {"application_name": application_name, **_OURS}
    # The server's end, too, is ours to set. Of two values PostgreSQL takes the later one.
    options = [f"-c {name}={value}" for name, value in {**parameters, **_THE_SERVERS}.items()]
    options += parsed.normalized_query.get("options", ())
    return {
        **{name: value for name, value in arguments.items() if name not in parsed.query},
        "options": " ".join(options),
    }


def redis_arguments(url: str) -> dict[str, Any]:
    """What a client of redis-py is given for it. Redis's own end is the affair of its `tcp-keepalive`.

    Arguments:
        url: of Redis; over a Unix socket there is nothing to notice.
    """
    if url.startswith("unix:"):
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": _REDIS_KEEPALIVE}


def ping_when_idle(engine: Engine) -> None:
    """Have kept connections tried before they are used again, and replaced with all others where one has ended.

    SQLAlchemy's own `pool_pre_ping` does so each time, which doubles the statements of a process that commits each.
    """

    def came_back(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["idle since"] = time.monotonic()

    def goes_out(connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        since = entry.info.get("idle since")
        if since is None or time.monotonic() - since < PING_AFTER:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            # As pool_pre_ping does: of the others none is used again, either, and this one is had anew.
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", came_back)
    event.listen(engine, "checkout", goes_out)
