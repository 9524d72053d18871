"""The fields of a request's JSON: each is read and checked, and what is left is refused by name."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Collection
from typing import Any

from qwen_ref.serve.errors import Problem

KINDS: dict[str, tuple[type, ...]] = {
    "true or false": (bool,),
    "a whole number": (int,),
    "a number": (int, float),
    "a text": (str,),
    "an object": (dict,),
    "a list": (list,),
}


def fits(value: Any, kind: str) -> bool:
    return isinstance(value, KINDS[kind]) and (kind == "true or false" or not isinstance(value, bool))


def parse(what: str, data: bytes | bytearray | str) -> Any:
    """The JSON of `what`. Raises Problem."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise Problem(400, f"{what}: is nested too deeply") from None
    except ValueError as error:
        told = "holds a number of too many digits" if "int_max" in str(error) else f"is no JSON: {error}"
        raise Problem(400, f"{what}: {told}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


class Fields:
    """Of an object at `where`, "" for the request itself. A field that is null counts as absent."""

    def __init__(self, value: Any, where: str = ""):
        if not isinstance(value, dict):
            raise Problem(400, f"{where or 'the body'}: is not a JSON object")
        self._left = {name: field for name, field in value.items() if field is not None}
        self._before = f"{where}." if where else ""

    def name(self, name: str) -> str:
        return f"{self._before}{name}"

    def take(self, name: str, *kinds: str, default: Any = None) -> Any:
        """The field's value, of one of these KINDS. Raises Problem."""
        value = self._left.pop(name, None)
        if value is None:
            return default
        if "a whole number" in kinds and isinstance(value, float) and value.is_integer():
            value = int(value)  # clients that know only floats write 8192.0
        if not any(fits(value, kind) for kind in kinds):
            self.refuse(name, f"{reprlib.repr(value)} is not {' or '.join(kinds)}")
        return value

    def need(self, name: str, *kinds: str) -> Any:
        if (value := self.take(name, *kinds)) is None:
            self.refuse(name, "is missing")
        return value

    def some(self, names: Collection[str], kind: str) -> dict[str, Any]:
        """Those of these fields that are given."""
        taken = {name: self.take(name, kind) for name in names}
        return {name: value for name, value in taken.items() if value is not None}

    def choose(self, name: str, choices: Collection[str]) -> str | None:
        value = self.take(name, "a text")
        if value is not None and value not in choices:
            self.refuse(name, f"{reprlib.repr(value)} is not one of {', '.join(choices)}")
        return value

    def inner(self, name: str) -> Fields:
        """The fields of an object in this one; of none, an empty one's."""
        return Fields(self.take(name, "an object", default={}), self.name(name))

    def pass_by(self, *names: str) -> None:
        """Fields that change nothing here."""
        for name in names:
            self._left.pop(name, None)

    def only(self, name: str, *values: Any) -> None:
        """A field that may only say what is so anyway."""
        value = self._left.pop(name, values[0])
        if value not in values:
            self.refuse(name, f"{reprlib.repr(value)} is not supported")

    def refuse(self, name: str, why: str) -> None:
        raise Problem(400, f"{self.name(name)}: {why}", self.name(name))

    def done(self) -> None:
        for name in self._left:
            self.refuse(name, "is no field that is known here")
