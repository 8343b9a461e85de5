"""The processes of a running system: embedded PostgreSQL and Redis, the supervisor, the demo, the check.

What the processes do is told elsewhere; what the workflow does, in `workflow/`. Dagster is not imported here: it is
reached through its commands and the webserver's GraphQL.
"""
