"""The results file: lines are appended whole, and what is there when it is opened counts.

    {"id": "batch_req_…", "custom_id": "a", "response": {"status_code": 200, …}, "error": null}

All that a start needs to go on stands in these lines: `id` says which request, word by word, a result is of,
and `system_fingerprint` of its body which model gave it, and how. A start that comes to no result takes
none from what is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwen_ref.batch.requests import Request, key_of
from qwen_ref.errors import QwenRefError
from qwen_ref.files import json_line, regular_file, write_whole

HEAD = b'{"id": "batch_req_'
ANEW = "--overwrite begins anew"


class Results:
    """The file at `path`, which no other process may have open. Raises QwenRefError if it cannot be used.

    done   key -> id of each request that has a result (about 150 bytes each)
    stale  what is there is to go, and no first result has come that takes its place
    """

    def __init__(self, path: Path, fingerprint: str, *, overwrite: bool = False, retry_errors: bool = False):
        self.path, self.fingerprint = path, fingerprint
        self.done = dict[int, str]()
        self._begun, self._made_here = False, not path.exists()
        if not self._made_here:
            regular_file(path)
        try:
            self._file = self._locked()
        except OSError as error:
            raise QwenRefError(f"{path}: cannot be written: {error.strerror}") from None
        try:
            self.stale = overwrite and os.fstat(self._file).st_size > 0
            self._size = 0 if overwrite else self._whole()  # bytes that count of what is there
            self._leaves_errors = False  # that are there out of the file, with the first result
            for number, (_, result) in enumerate(self._lines(), 1):
                if retry_errors and result["error"] is not None:
                    self._leaves_errors = True
                else:
                    self._check(number, result)
        except BaseException:
            self.close()
            raise

    def _locked(self) -> int:
        """The file, opened and locked: the system frees it when this process ends, however it does."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    return file
            except BlockingIOError:
                os.close(file)
                raise QwenRefError(f"{self.path}: another process is writing it") from None
            except FileNotFoundError:
                pass
            os.close(file)  # another one has taken its place meanwhile

    def _whole(self) -> int:
        """Bytes without the beginning of a line that a killed process has left; the end of a file of others
        is refused. A last line that is whole but for its end, which an editor has left out, counts."""
        size = os.fstat(self._file).st_size
        with open(self.path, "rb") as file:
            end, tail = size, b""
            while end and b"\n" not in tail:
                start = max(0, end - (1 << 16))
                file.seek(start)
                tail, end = file.read(end - start) + tail, start
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return size
        with contextlib.suppress(ValueError):
            json.loads(torn)
            return size
        if torn.strip(b"\0")[: len(HEAD)] != HEAD[: len(torn.strip(b"\0"))]:
            raise QwenRefError(f"{self.path}: its end is no result of a batch; {ANEW}")
        return size - len(torn)

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Those that count, and what they say."""
        number, left = 0, self._size
        with open(self.path, "rb") as file:
            while line := file.readline(left):
                number, left = number + 1, left - len(line)
                try:
                    result = json.loads(line)
                    id, response = result["id"], result["response"]
                    if not id.startswith("batch_req_") or not isinstance(response["body"], dict):
                        raise ValueError
                    key_of(result["custom_id"], id)
                    bool(result["error"])
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    told = f"{self.path}: line {number} is no result of a batch; {ANEW}"
                    raise QwenRefError(told) from None
                yield line.removesuffix(b"\n") + b"\n", result

    def _check(self, number: int, result: dict[str, Any]) -> None:
        given = result["response"]["body"].get("system_fingerprint", self.fingerprint)
        if given != self.fingerprint:
            raise QwenRefError(
                f"{self.path}: its answers are another model's, or were computed with other options "
                f"({given!s:.40}, and now it is {self.fingerprint}); {ANEW}"
            )
        key, id = key_of(result["custom_id"], result["id"]), result["id"]
        if key in self.done:  # of two files that were put together
            told = f"{self.path}: line {number} is a second result of {result['custom_id'] or id!r:.100}"
            raise QwenRefError(f"{told}; take out one of them, or {ANEW}")
        self.done[key] = id

    def begin(self) -> None:
        """The file stays, and its last line is whole; results that are there go with a first new one only.
        Raises QwenRefError."""
        if not self._begun and not self.stale:
            self._mend()
        self._begun = True

    def _mend(self) -> None:
        """Take off the beginning of a line, and end one that lacks its end."""
        try:
            os.ftruncate(self._file, self._size)
            if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError as error:
            raise QwenRefError(f"{self.path}: cannot be written: {error.strerror}") from None

    def _replace(self, first: bytes) -> None:
        """A file of the results that stay and the first new one, if any, takes the place of this one."""
        with write_whole(self.path) as file:
            file.writelines(line for line, result in self._lines() if result["error"] is None)
            file.write(first)
        self.stale, self._leaves_errors, self._begun = False, False, True
        try:
            old, self._file = self._file, self._locked()
        except OSError as error:
            raise QwenRefError(f"{self.path}: cannot be written: {error.strerror}") from None
        os.close(old)

    def leave_errors(self) -> None:
        """Every request has a result: the errors that were to be tried again, and are there, are of none.
        Raises QwenRefError."""
        if self._leaves_errors:
            self._replace(b"")

    def _helps(self, ids: set[str]) -> str:
        """What a user can do where results with these ids are in the way."""
        ways = {result["error"] is None for _, result in self._lines() if result["id"] in ids}
        return ANEW if True in ways else "--retry-errors takes errors out"

    def check(self, requests: Iterator[Request], name: str) -> tuple[int, int]:
        """How many there are, and how many of them have a result. Raises QwenRefError if results are of other
        requests."""
        total = found = 0
        for request in requests:
            total += 1
            id = self.done.get(request.key, request.id)
            if id != request.id:
                raise QwenRefError(
                    f"{self.path}: {request.custom_id!r:.100} was answered when it asked something else than "
                    f"it does in {name}; {self._helps({id})}"
                )
            found += request.key in self.done
        if self.done and not found:
            raise QwenRefError(
                f"{self.path}: its {len(self.done):,} results are of no request in {name}; "
                f"{self._helps(set(self.done.values()))}"
            )
        return total, found

    def append(self, result: dict[str, Any]) -> None:
        """Raises QwenRefError where it cannot be written; then nothing of it is there, and all that was."""
        line = json_line(result)
        if self.stale or self._leaves_errors:
            self._replace(line)
        else:
            if not self._begun:
                self._mend()
            self._write(line)
        self._begun = True

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            while written < len(line):  # the rest, or the error that kept it back
                written += os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, size)
            raise QwenRefError(
                f"{self.path}: cannot be written: {error.strerror}; what is there stays, and the same "
                "command goes on from it"
            ) from None
        except BaseException:
            os.ftruncate(self._file, size)
            raise

    def close(self) -> None:
        """A file that was made here, for a start that came to nothing, goes again."""
        if self._made_here and not self._begun:
            Path(os.path.realpath(self.path)).unlink(missing_ok=True)  # of a link what it points to
        os.close(self._file)
