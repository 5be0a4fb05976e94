"""Which API a request is of."""

from typing import Any

from benchmarks.soak.engine.completions import ChatJob, TextJob
from benchmarks.soak.engine.job import Job
from benchmarks.soak.engine.messages import MessagesJob
from benchmarks.soak.engine.responses import ResponsesJob
from benchmarks.soak.plan import PATHS

_JOBS: dict[str, type[Job]] = {
    "chat": ChatJob,
    "completions": TextJob,
    "responses": ResponsesJob,
    "messages": MessagesJob,
}
_BY_PATH = {PATHS[api].encode(): job for api, job in _JOBS.items()}


def job_of(path: bytes, body: dict[str, Any]) -> Job:
    """The request's job. Raises KeyError for a path of no API."""
    return _BY_PATH[path](body)
