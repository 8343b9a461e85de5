"""How connections to PostgreSQL and Redis notice that a host is gone without a word: its cable is out, or its power.

TCP by itself notices after a quarter of an hour if something was sent, and after two hours if not. Until then a client
waits for an answer; and a server keeps what the client had: above all PostgreSQL the rows that were locked in an open
transaction, for which everybody else waits.
"""

from __future__ import annotations

import socket
from typing import Any

from sqlalchemy import make_url

IDLE, INTERVAL, PROBES = 10, 5, 4
"""Seconds of silence until the other end is asked whether it is there, seconds between two questions, and how many."""
NOTICED = IDLE + INTERVAL * PROBES
"""Seconds after which a connection has ended, at both ends; one that is cut for a shorter time goes on."""

REDIS_KEEPALIVE = {
    socket.TCP_KEEPIDLE: IDLE,
    socket.TCP_KEEPINTVL: INTERVAL,
    socket.TCP_KEEPCNT: PROBES,
    socket.TCP_USER_TIMEOUT: NOTICED * 1000,
}
"""`socket_keepalive_options` of redis-py, for TCP. Redis's own end is the affair of its `tcp-keepalive`."""
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


def postgres_arguments(url: str, application_name: str) -> dict[str, Any]:
    """The `connect_args` of an engine. What the URL itself says goes before.

    Arguments:
        url: of the database, for SQLAlchemy.
        application_name: for those who look who is connected.
    """
    parsed = make_url(url)
    arguments = {"application_name": application_name, **_OURS}
    # The server's end, too, is ours to set. Of two values PostgreSQL takes the later one.
    options = [f"-c {name}={value}" for name, value in _THE_SERVERS.items()]
    options += parsed.normalized_query.get("options", ())
    return {
        **{name: value for name, value in arguments.items() if name not in parsed.query},
        "options": " ".join(options),
    }
