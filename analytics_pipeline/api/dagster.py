"""Dagster from outside: which syncs run, and starting one, through the GraphQL of its webserver.

Belongs here: the names of a dataset's jobs, asking and starting. Does not: what a sync does.

`dagster_graphql` is imported when it is needed: the first import takes about a second, and reading needs none of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from analytics_pipeline.errors import DagsterUnreachable

if TYPE_CHECKING:
    from gql.transport.requests import RequestsHTTPTransport

logger = logging.getLogger(__name__)

REFRESH_ALL = "refresh_all_job"
_SECONDS = 20
_SILENT = "it does not answer as Dagster does"
_TAGS = {"analytics_pipeline/requested_by": "api"}
_ACTIVE = """
query ActiveRuns {
  runsOrError(filter: {statuses: [NOT_STARTED, QUEUED, STARTING, STARTED, CANCELING]}) {
    ... on Runs { results { runId jobName } }
    ... on Error { message }
  }
}
"""


def refresh_job(dataset: str) -> str:
    """The job that refreshes a dataset."""
    return f"{dataset}_refresh_job"


def rebuild_job(dataset: str) -> str:
    """The job that replaces all of a dataset."""
    return f"{dataset}_rebuild_job"


class Dagster:
    """A Dagster webserver.

    Args:
        url: where it answers; with the path before `/graphql`, if it has one.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def active_runs(self, jobs: Sequence[str]) -> Mapping[str, str]:
        """The run of each of some jobs that waits or works.

        Raises:
            DagsterUnreachable: it does not answer, or not as Dagster does.
        """
        from gql import Client, gql  # noqa: PLC0415 - see the module's charter

        with self._failing_plainly():
            found: dict[str, Any] = Client(transport=self._transport()).execute(gql(_ACTIVE))["runsOrError"]
            if "message" in found:
                raise DagsterUnreachable(self._url, str(found["message"]))
            return {run["jobName"]: run["runId"] for run in found["results"] if run["jobName"] in jobs}

    def start(self, job: str) -> str:
        """Start a job; its run's id.

        Raises:
            DagsterUnreachable: it does not answer, or has no such job.
        """
        from dagster_graphql import DagsterGraphQLClient  # noqa: PLC0415 - see the module's charter

        parts = urlsplit(self._url)
        with self._failing_plainly():
            client = DagsterGraphQLClient(
                parts.hostname or "", parts.port, transport=self._transport(), use_https=parts.scheme == "https"
            )
            return client.submit_job_execution(job, tags=_TAGS)

    def _transport(self) -> RequestsHTTPTransport:
        from gql.transport.requests import RequestsHTTPTransport  # noqa: PLC0415 - see the module's charter

        return RequestsHTTPTransport(url=f"{self._url}/graphql", use_json=True, timeout=_SECONDS)

    @contextmanager
    def _failing_plainly(self) -> Iterator[None]:
        from dagster_graphql import DagsterGraphQLClientError  # noqa: PLC0415 - see the module's charter
        from gql.transport.exceptions import TransportError  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415

        try:
            yield
        except (RequestException, TransportError) as error:
            logger.warning("No answer from Dagster at %s: %s", self._url, error)
            raise DagsterUnreachable(self._url, _SILENT) from error
        except DagsterGraphQLClientError as error:
            logger.warning("Dagster at %s refuses: %s", self._url, error.__cause__ or error)
            raise DagsterUnreachable(self._url, _reason(error)) from error


def _reason(error: Exception) -> str:
    """In few words: Dagster's own sentences quote whole queries."""
    named = str(error.args[0]) if error.args else ""
    if named == "JobNotFoundError":
        return "it has no such job, so the variable of the dataset's source is not set there"
    return named if named.isalnum() else _SILENT
