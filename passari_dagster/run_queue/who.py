"""Who launches a run, as far as that can be known: told by a tag of each run, for the audit log.

The webserver has no login; the proxy in front of it has, and hands the name on in a header. What comes without it is
told as unknown: a name that anybody may write into a tag is never believed.
"""

from __future__ import annotations

from collections.abc import Mapping

from passari_dagster.run_queue.dagster_internals import (
    BACKFILL_ID_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
    SubmitRunContext,
    WorkspaceRequestContext,
)

USER_TAG = "passari/user"
USER_HEADER = "X-Forwarded-User"
LONGEST = 200
"""Characters of a name that are kept."""


def who_launches(tags: Mapping[str, str], context: SubmitRunContext, header: str, killed: str | None = None) -> str:
    """The login; or, in words, by what the run is launched.

    Arguments:
        tags: of the run.
        context: how it was submitted; only the webserver's has a request.
        header: name of the header that holds the login.
        killed: who had launched the run that was killed and in whose place Dagster starts this one.
    """
    name = context.get_request_header(header)
    if name and name.strip() and name.isprintable():
        return name.strip()[:LONGEST]
    if isinstance(context.workspace, WorkspaceRequestContext) and hasattr(context.workspace.source, "headers"):
        return "unknown (ui)"
    if killed is not None:
        return killed
    for tag, kind in ((SCHEDULE_NAME_TAG, "schedule"), (SENSOR_NAME_TAG, "sensor"), (BACKFILL_ID_TAG, "backfill")):
        if tag in tags:
            return f"{kind} {tags[tag]}"
    return "unknown (dagster)"
