"""Several slow readers at once, each in a thread, and one who takes what they read. What is read is not known here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_UP = 1.0
"""Seconds after which a reader whose place is full looks whether anybody takes anything still."""


class SideBySide(Generic[T]):
    """What the readers read, as it comes; to be iterated over once, in one thread.

    Each reader has a thread while it is read, and reads ahead by one item: there are never more than two items for each
    thread in memory. A reader that raises stops all; what the others had read by then is given first.

    Arguments:
        readers: taken up in their order, as threads become free.
        threads: how many are read at once.
    """

    def __init__(self, readers: Iterable[Iterable[T]], threads: int) -> None:
        self._readers = iter(readers)
        self._threads = threads
        self._results: queue.Queue[T | _Ended] = queue.Queue(maxsize=threads)
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._abandoned = threading.Event()

    def stop(self) -> None:
        """Begin nothing more; the iteration ends after what is at hand."""
        self._stop.set()

    def __iter__(self) -> Iterator[T]:
        # Daemons: a process that is to end does not wait for an answer that may take minutes.
        for number in range(self._threads):
            threading.Thread(target=self._run, name=f"reader-{number}", daemon=True).start()
        running, error = self._threads, None
        try:
            while running:
                result = self._results.get()
                if isinstance(result, _Ended):
                    running -= 1
                    error = error or result.error
                else:
                    yield result
        finally:
            self._stop.set()
            self._abandoned.set()
        if error is not None:
            raise error

    def _run(self) -> None:
        ended = _Ended()
        try:
            while not self._stop.is_set():
                with self._mutex:
                    reader = next(self._readers, None)
                if reader is None:
                    break
                for item in reader:
                    self._put(item)
                    if self._stop.is_set():
                        break
        except BaseException as error:
            ended.error = error
            self._stop.set()
        self._put(ended)

    def _put(self, result: T | _Ended) -> None:
        while not self._abandoned.is_set():
            try:
                self._results.put(result, timeout=_LOOK_UP)
            except queue.Full:
                continue
            break


class _Ended:
    """A thread has ended, and why."""

    error: BaseException | None = None
