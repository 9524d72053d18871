"""Tools as many people have them, and what they ask of them: what the files in the folder everyday say.

Tools stand there with an empty line between them. The first line of each has the verbs and the nouns that
its name is made of; the second what it is for, one of several between |; then, indented, its parameters:
their usual names and their kind (of tooling.KINDS, or the words of an enum with / between them), with ? where
it may be left out. The rest are questions, a line each, which name their values by numbers, a flag's as on or
off; {1=true} is a value that follows from the other words. {noun} is the noun that was taken, in any line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Parameter:
    names: list[str]
    kind: str
    needed: bool


@dataclass(frozen=True)
class Usual:
    verbs: list[str]
    nouns: list[str]
    abouts: list[str]
    parameters: list[Parameter]
    questions: list[str]
    words: set[str]  # of its name and of what it is for


SAY_NOTHING = set("the a an my me please for of in on to with it i you can could at and this that is".split())


def words_of(text: str) -> set[str]:
    """Those that tell something, without the values that a question names."""
    return {*re.findall(r"[a-z]+", re.sub(r"{[\w=]+}", " ", text).lower())} - SAY_NOTHING


def is_clear(question: str, others: list[Usual]) -> bool:
    """Has it, for each of the others, a word that this one has not?"""
    return all(not words_of(question) <= other.words for other in others)


def parameter(line: str) -> Parameter:
    names, kind = line.split(": ")
    return Parameter(names.split("|"), kind.removesuffix("?"), kind[-1] != "?")


def usual(block: str) -> Usual:
    name, abouts, *lines = block.split("\n")
    verbs, nouns = name.split(" + ")
    parameters = [parameter(line.strip()) for line in lines if line[0] == " "]
    questions = [line for line in lines if line[0] != " "]
    words = words_of(f"{name} {abouts}".replace("_", " "))
    return Usual(verbs.split(), nouns.split(), abouts.split("|"), parameters, questions, words)


def given(question: str) -> set[int]:
    """Which parameters a question has values for."""
    return {int(number) for number in re.findall(r"{(\d)[=}]", question)}


IMPLIED = re.compile(r"{(\d)=(\w+)}")


def without_implied(question: str) -> tuple[str, dict[int, str | bool]]:
    """A question without the values that follow from its words, and these by their parameters' numbers."""
    flags = {"true": True, "false": False}
    found = {int(number): flags.get(what, what) for number, what in IMPLIED.findall(question)}
    return IMPLIED.sub("", question), found


FILES = sorted((Path(__file__).parent / "everyday").glob("*.txt"))
EVERYDAY = [usual(block) for file in FILES for block in file.read_text().strip().split("\n\n")]
