"""Both ends of a connection notice that the other host is gone; what the administrator says in the URL goes before."""

from __future__ import annotations

from pydantic import SecretStr
from sqlalchemy import text

from passari_dagster.catalogue import database
from passari_dagster.connections import NOTICED, postgres_arguments
from passari_dagster.run_queue.ledger import connect

URL = "postgresql+psycopg2://museum:secret@db/passari"


def test_both_ends_of_a_connection_to_postgresql_notice_within_half_a_minute() -> None:
    arguments = postgres_arguments(URL, "museum")
    assert NOTICED <= 30
    assert arguments["keepalives_idle"] + arguments["keepalives_interval"] * arguments["keepalives_count"] == NOTICED
    assert arguments["tcp_user_timeout"] == NOTICED * 1000
    assert arguments["application_name"] == "museum"
    assert "-c tcp_keepalives_idle=" in arguments["options"]
    assert f"-c tcp_user_timeout={NOTICED * 1000}" in arguments["options"]


def test_the_administrators_parameters_go_before_ours(museum_database: str) -> None:
    arguments = postgres_arguments(f"{URL}?connect_timeout=3&options=-c%20tcp_keepalives_idle%3D77", "museum")
    assert "connect_timeout" not in arguments
    assert arguments["options"].endswith(" -c tcp_keepalives_idle=77")
    engine = database.connect(SecretStr(f"{museum_database}&options=-c%20statement_timeout%3D7s"))
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "7s"
        assert connection.scalar(text("SHOW application_name")) == "passari_dagster"
    engine.dispose()


def test_a_connection_to_redis_notices_too() -> None:
    for url in ("redis://db:6379/0", "rediss://db:6379/0"):
        kwargs = connect(url, patient=True).connection_pool.connection_kwargs
        assert kwargs["socket_keepalive"]
        assert NOTICED * 1000 in kwargs["socket_keepalive_options"].values()
    assert "socket_keepalive" not in connect("unix:///run/redis.sock").connection_pool.connection_kwargs
