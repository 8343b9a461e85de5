"""Where the output of a run's code goes: to files, and nowhere else.

Dagster's own manager also mirrors it to the process's output, by four processes more for each run, two of them a start
of Python: more CPU than all the rest of a run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from passari_dagster.run_queue.dagster_internals import (
    CapturedLogContext,
    ComputeIOType,
    ConfigurableClassData,
    LocalComputeLogManager,
    ensure_file,
    redirect_to_file,
)

EXTENSIONS = {ComputeIOType.STDOUT: "out", ComputeIOType.STDERR: "err"}


class FileComputeLogManager(LocalComputeLogManager):
    """Dagster's, without the mirrors; named in dagster.yaml."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> FileComputeLogManager:
        """Made by Dagster."""
        return cls(inst_data=inst_data, **config_value)

    @contextlib.contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """The process's output goes to the files of this key while the block runs."""
        with contextlib.ExitStack() as stack:
            for kind, stream in ((ComputeIOType.STDOUT, sys.stdout), (ComputeIOType.STDERR, sys.stderr)):
                path = self.get_captured_local_path(log_key, EXTENSIONS[kind])
                ensure_file(path)
                stack.enter_context(redirect_to_file(stream, path))
            yield CapturedLogContext(log_key)
        # By this the UI knows that no more will come.
        ensure_file(self.complete_artifact_path(log_key))  # type: ignore[no-untyped-call]
