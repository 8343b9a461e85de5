"""A REST service that says what it is told to, for answers that no sane DPS gives."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class FakeRest:
    """Answers each path with the next of its answers, and the last one again and again; else 404.

    Arguments:
        answers: for each path, documents to be sent as JSON, texts to be sent as they are, or None: the connection
            is cut without an answer.

    Attributes:
        requests: paths with queries, as they arrived.
    """

    def __init__(self, answers: dict[str, list[object]]) -> None:
        self.requests: list[str] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                left = answers.get(self.path.partition("?")[0])
                if not left:
                    self.send_error(404)
                    return
                answer = left.pop(0) if len(left) > 1 else left[0]
                if answer is None:
                    self.close_connection = True
                    return
                body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> FakeRest:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
