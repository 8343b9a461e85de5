"""What the services ask of Dagster, over its webserver's GraphQL: health, launching jobs.

Dagster is not imported here. What the jobs do is told in `defs/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from passari_dagster.errors import PassariError

LOCATION = "passari_dagster"
REPOSITORY = "__repository__"
ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


class DagsterRefused(PassariError):
    """Dagster did not do what it was asked for; the message is Dagster's."""


class Webserver:
    """A running webserver. Close it when done.

    Arguments:
        url: its address, such as http://127.0.0.1:3000
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # Addresses of this machine only: no proxy of the environment.
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer.

        Raises:
            DagsterRefused: the answer holds errors, or there is none.
        """
        try:
            answer = self._client.post("/graphql", json={"query": query, "variables": variables})
            answer.raise_for_status()
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DagsterRefused(f"the webserver at {self.url} did not answer: {error}") from None
        if body.get("errors"):
            raise DagsterRefused("; ".join(error["message"] for error in body["errors"]))
        data: dict[str, Any] = body["data"]
        return data

    def code_is_loaded(self) -> bool:
        """Whether it serves, and has loaded our definitions.

        Raises:
            DagsterRefused: the definitions cannot be loaded; with the reason.
        """
        try:
            data = self.ask(
                "{workspaceOrError{...on Workspace{locationEntries{loadStatus locationOrLoadError"
                "{__typename ...on PythonError{message}}}} ...on PythonError{message}}}"
            )
        except DagsterRefused:  # it does not listen yet
            return False
        workspace = data["workspaceOrError"]
        if "message" in workspace:
            raise DagsterRefused(workspace["message"])
        entries = workspace["locationEntries"]
        for entry in entries:
            if (entry["locationOrLoadError"] or {}).get("__typename") == "PythonError":
                raise DagsterRefused(entry["locationOrLoadError"]["message"])
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    def daemons_are_healthy(self) -> bool:
        """Whether every daemon that the instance needs has sent a heartbeat lately."""
        try:
            data = self.ask("{instance{daemonHealth{allDaemonStatuses{required healthy}}}}")
        except DagsterRefused:
            return False
        statuses = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(status["healthy"] for status in statuses if status["required"])

    def launch(self, job: str, config: Mapping[str, Any] | None = None) -> str:
        """Launch a job; the answer is the run's id.

        Raises:
            DagsterRefused: for instance the config does not fit.
        """
        data = self.ask(
            "mutation($params:ExecutionParams!){launchRun(executionParams:$params){__typename"
            " ...on LaunchRunSuccess{run{runId}} ...on PythonError{message}"
            " ...on RunConfigValidationInvalid{errors{message}}}}",
            params={"selector": {**_SELECTOR, "jobName": job}, "runConfigData": dict(config or {})},
        )
        return _launched(data["launchRun"])

    def run_status(self, run_id: str) -> str:
        """QUEUED, STARTED, SUCCESS, FAILURE, …"""
        data = self.ask("query($id:ID!){runOrError(runId:$id){...on Run{status} ...on Error{message}}}", id=run_id)
        run = data["runOrError"]
        if "message" in run:
            raise DagsterRefused(run["message"])
        return str(run["status"])

    def run_errors(self, run_id: str) -> list[str]:
        """What went wrong in a run, as its events tell."""
        data = self.ask(
            "query($id:ID!){logsForRun(runId:$id){...on EventConnection{events{__typename"
            " ...on ExecutionStepFailureEvent{stepKey error{message}}"
            " ...on RunFailureEvent{error{message}}}}}}",
            id=run_id,
        )
        events = data["logsForRun"].get("events", [])
        return [event["error"]["message"].strip() for event in events if event.get("error")]

    def output_numbers(self, run_id: str) -> dict[str, int]:
        """The whole numbers that a run's ops have told of their outputs, by label."""
        data = self.ask(
            "query($id:ID!){logsForRun(runId:$id){...on EventConnection{events{"
            "...on ExecutionStepOutputEvent{metadataEntries{label ...on IntMetadataEntry{intValue}}}}}}}",
            id=run_id,
        )
        entries = [
            entry for event in data["logsForRun"].get("events", []) for entry in event.get("metadataEntries", [])
        ]
        return {entry["label"]: entry["intValue"] for entry in entries if entry.get("intValue") is not None}

    def runs(self, job: str | None = None, statuses: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Runs, the newest first: `runId`, `status` and `jobName` of each."""
        criteria: dict[str, Any] = {"statuses": list(statuses)} if statuses else {}
        if job is not None:
            criteria["pipelineName"] = job
        data = self.ask(
            "query($filter:RunsFilter!){runsOrError(filter:$filter){...on Runs{results{runId status jobName}}"
            " ...on PythonError{message}}}",
            filter=criteria,
        )
        answer = data["runsOrError"]
        if "message" in answer:
            raise DagsterRefused(answer["message"])
        results: list[dict[str, Any]] = answer["results"]
        return results


_SELECTOR = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY}


def _launched(answer: dict[str, Any]) -> str:
    if "run" not in answer:
        messages = [error["message"] for error in answer.get("errors", [])] or [answer.get("message", "")]
        raise DagsterRefused(f"{answer['__typename']}: {'; '.join(messages)}")
    return str(answer["run"]["runId"])
