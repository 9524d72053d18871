"""What goes wrong with a request: one sentence and an HTTP status."""

from __future__ import annotations


class Problem(Exception):
    """`param` is the request's field that it is about; `retry` the seconds after which to try again. Half a
    character, as names of files may have it, is spelled in the message: it is sent as UTF-8."""

    def __init__(self, status: int, message: str, param: str | None = None, retry: int | None = None):
        message = message.encode(errors="backslashreplace").decode()
        super().__init__(message)
        self.status, self.message, self.param, self.retry = status, message, param, retry

    def __reduce__(self) -> tuple[type[Problem], tuple[object, ...]]:  # sent to another process
        return Problem, (self.status, self.message, self.param, self.retry)
