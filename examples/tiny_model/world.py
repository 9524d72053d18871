"""The closed world that the small model knows: questions, and the one right answer to each.

`sample(task, seed, test)` is a function of its arguments alone. Test samples come from other seeds, and their
words, names, cities, sums and names of tools are among the tenth that training never sees (`words.held_out`).

What there is to see is drawn once and asked about several times: a view, and samples of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import documents
import languages
import memory
import reading
import scenes
import talk
from draw import FRAMES, Size
from figures import compared, sums
from sample import Sample, View, a
from tooling import result, tools

SIZES = {  # of pictures, width and height, and how often each is drawn for `sample`
    (256, 256): 4, (320, 224): 4, (224, 320): 4, (448, 160): 2, (160, 448): 2, (384, 288): 4, (288, 384): 4,
    (480, 320): 3, (512, 512): 2, (640, 480): 4, (480, 640): 4, (832, 288): 1, (1024, 768): 1,
    (1024, 1024): 1,
}  # fmt: skip
CLIP_SIZES = [(128, 128), (224, 160)]

# What is drawn, how often, and what is asked about it. Documents and screens are not drawn on small pictures.
Draw = Callable[[random.Random, bool, Size], View]
Ask = Callable[[random.Random, View, bool], Sample]
PICTURES: dict[Draw, float] = {
    scenes.shapes: 25,
    reading.page: 52,
    documents.document: 14,
    reading.screen: 44,
    talk.something_else: 3,
}
QUESTIONS: dict[str, dict[Ask, float]] = {
    "shapes": {
        scenes.scene: 56,
        scenes.caption: 17,
        scenes.boxes: 46,
        scenes.picture_in_language: 10,
        talk.beside_the_picture: 2,
        talk.role_of_picture: 8,
    },
    "page": {reading.read: 0.85, reading.place_of_line: 0.15},
    "document": {documents.extract: 1},
    "screen": {reading.click: 0.85, reading.place_of_part: 0.15},
    "something_else": {talk.unknown_picture: 1},
    "moving": {scenes.motion: 1},
}
TEXTS: dict[Callable[[random.Random, bool], Sample], float] = {
    sums: 36,
    compared: 22,
    talk.repeat: 20,
    memory.memory: 28,
    talk.story: 6,
    talk.unknown: 14,
    talk.talk: 10,
    languages.languages: 28,
    talk.roles: 40,
    talk.as_json: 30,
    talk.found: 34,
}
LONGER_TEXTS = TEXTS | {tools: 25, memory.longer_memory: 12, talk.longer_found: 12}  # of TEXTS a tenth
LONG_TEXTS = {talk.long_found: 1.0}
LONGEST_TEXTS = {talk.longest_found: 1.0}
TOOLS = {tools: 1.0}

TASKS = [
    "scene", "caption", "boxes", "languages", "unknown", "read", "extract", "click", "motion", "sums",
    "compared", "memory", "story", "talk", "roles", "json", "found", "tools",
]  # fmt: skip
_OF_VIEWS: dict[str, tuple[Draw, Ask]] = {
    "scene": (scenes.shapes, scenes.scene),
    "caption": (scenes.shapes, scenes.caption),
    "boxes": (scenes.shapes, scenes.boxes),
    "read": (reading.page, reading.read),
    "extract": (documents.document, documents.extract),
    "click": (reading.screen, reading.click),
}
_OF_TEXT = {
    "sums": sums, "compared": compared, "memory": memory.memory, "story": talk.story, "talk": talk.talk,
    "roles": talk.roles, "json": talk.as_json, "found": talk.found, "tools": tools,
}  # fmt: skip

NO_THOUGHTS = "Nothing has to be worked out here."  # when told to think where there is nothing to think


def choose(rng: random.Random, weights: dict) -> Callable:
    return rng.choices(list(weights), list(weights.values()))[0]


def with_thoughts(rng: random.Random, made: Sample, test: bool) -> Sample:
    if not test and made.thoughts is None and made.task != "sums" and rng.random() < 0.04:
        made.thoughts = NO_THOUGHTS
    return in_other_words(rng, made) if made.task in VARIED and not test else made


OTHER_WORDS = [
    ("picture", "image"), ("image", "picture"), ("this picture", "the photo"), ("objects", "things"),
    ("object", "thing"), ("objects", "shapes"), ("What is", "What's"), ("Which", "What"), ("colour", "color"),
    ("do you see", "can you see"), ("clip", "video"),
    ("What is", "Tell me what is"),
]  # fmt: skip
WITH_ARTICLE = re.compile(r"\ban? (image|picture|object|thing|clip|video)\b")  # which another word may change
VARIED = {
    "scene",
    "caption",
    "boxes",
    "unknown",
    "read",
    "extract",
    "click",
    "motion",
    "sums",
    "talk",
    "languages",
}
IN_CAPITALS = {"scene", "caption", "motion", "sums", "languages"}  # no word of the question is in the answer


def is_written(made: Sample, word: str) -> bool:
    """Whether it stands in the picture, or is said not to stand there: such a word the question may name."""
    lines = ["".join(letter for letter, _, _ in line) for line in made.view.letters] if made.view else []
    return bool(lines) and word.lower() in "\n".join([*lines, made.answer]).lower()


def in_other_words(rng: random.Random, made: Sample) -> Sample:
    """Sometimes the question is a little other: a word, a please, no capital letter, no mark at its end."""
    content = made.messages[-1]["content"]
    said = content if isinstance(content, str) else content[-1]["text"]
    if '"action": "type"' in made.answer:  # what is to be typed stays as it is
        return made
    if rng.random() < 0.25:
        old, new = rng.choice(OTHER_WORDS)
        if not is_written(made, old) and not is_written(made, new):
            said = WITH_ARTICLE.sub(lambda found: a(found[1]), said.replace(old, new, 1))
    if rng.random() < 0.08:
        said = rng.choice(["Please: ", "Can you tell me: ", "Hey, ", "Look: ", "One question: "]) + said
    if rng.random() < 0.08 and said[-1] in ".?":
        said = said[:-1] + rng.choice(["", ", please" + said[-1], " please"])
    if rng.random() < 0.1:
        said = said[0].lower() + said[1:]
    elif made.task in IN_CAPITALS and rng.random() < 0.03:
        said = said.upper()
    made.messages[-1]["content"] = (
        said if isinstance(content, str) else [*content[:-1], content[-1] | {"text": said}]
    )
    return made


EARLIER = [1, 1, 1, 2, 2, 3]  # questions before this one, where there are any


def after_others(rng: random.Random, made: Sample, other: Callable[[], Sample]) -> Sample:
    """Behind questions asked and answered before: about the same view or, of text, about anything."""
    if made.messages[0]["role"] == "system":  # it would hold for the answers before, too
        return made
    rest = made.messages
    before: list[dict] = []
    tools = list(made.tools or [])
    for _ in range(rng.choice(EARLIER)):
        one = other()
        names = {t["function"]["name"] for t in tools}
        new = [t for t in one.tools or [] if t["function"]["name"] not in names]
        told = isinstance(one.messages[-1]["content"], str) or made.view is not None
        if one.messages[0]["role"] == "system" or len(new) != len(one.tools or []) or not told:
            continue
        if bool(one.tools) != bool(made.tools) and made.task != "tools":
            continue
        tools += new
        before += [*one.messages, spoken(one)]
    if not before:
        return made
    if made.view is not None:  # it was shown with the first question
        for message in [*before[1:], *rest]:
            if isinstance(message["content"], list):
                message["content"] = message["content"][-1]["text"]
    made.messages = [*before, *rest]
    made.tools = tools or None
    return made


CALL = re.compile(r"<function=(\w+)>\n(.*?)</function>", re.DOTALL)
ARGUMENT = re.compile(r"<parameter=(\w+)>\n(.*?)\n</parameter>", re.DOTALL)


def spoken(sample: Sample) -> dict:
    """What was answered, as a message."""
    calls = [
        {"function": {"name": name, "arguments": dict(ARGUMENT.findall(inside))}}
        for name, inside in CALL.findall(sample.answer)
    ]
    if calls:
        return {"role": "assistant", "content": "", "tool_calls": calls}
    return {"role": "assistant", "content": sample.answer}


def text(seed: int, test: bool, tasks: dict) -> Sample:
    rng = random.Random(f"text {seed} {test}")
    made = with_thoughts(rng, choose(rng, tasks)(rng, test), test)
    if made.view is None and rng.random() < 0.3:

        def other() -> Sample:
            one = choose(rng, tasks)(rng, test)
            if made.task == "tools" and CALL.search(one.answer) and one.messages[-1]["role"] == "user":
                return answered_call(rng, one, test)
            return one

        return after_others(rng, made, other)
    return made


def answered_call(rng: random.Random, sample: Sample, test: bool) -> Sample:
    """A sample whose answer is calls, with what they came to, and that told."""
    told, answer = result(rng, test, {"noun": rng.choice(["result", "answer"])})
    calls = spoken(sample)
    results = [{"role": "tool", "content": told} for _ in calls["tool_calls"]]
    return Sample("tools", [*sample.messages, calls, *results], answer, tools=sample.tools)


def picture(seed: int, test: bool, size: Size) -> View:
    rng = random.Random(f"picture {seed} {test}")
    return choose(rng, PICTURES)(rng, test, size)


def clip(seed: int, test: bool, size: Size, frames: int) -> View:
    return scenes.moving(random.Random(f"clip {seed} {test}"), test, size, frames)


def question(view: View, seed: int, test: bool) -> Sample:
    rng = random.Random(f"question {seed} {test}")
    make = lambda: choose(rng, QUESTIONS[view.kind])(rng, view, test)  # noqa: E731
    made = with_thoughts(rng, make(), test)
    return after_others(rng, made, make) if rng.random() < 0.3 else made


def sample(task: str, seed: int, test: bool = False) -> Sample:
    """One sample of a task. Training and test never share a seed."""
    rng = random.Random(f"{task} {seed} {test}")
    size = choose(rng, SIZES)
    if task == "motion":
        view = scenes.moving(rng, test, rng.choice(CLIP_SIZES), FRAMES)
        return scenes.motion(rng, view, test)
    if task == "languages" and rng.random() < 0.5:
        return scenes.picture_in_language(rng, scenes.shapes(rng, test, size), test)
    if task == "unknown" and rng.random() < 0.5:
        drawn, asked = rng.choice(
            [(talk.something_else, talk.unknown_picture), (scenes.shapes, talk.beside_the_picture)]
        )
    elif task == "roles" and rng.random() < 0.4:
        drawn, asked = scenes.shapes, talk.role_of_picture
    elif task in _OF_VIEWS:
        drawn, asked = _OF_VIEWS[task]
    else:
        return with_thoughts(
            rng,
            (_OF_TEXT | {"languages": languages.languages, "unknown": talk.unknown})[task](rng, test),
            test,
        )
    while (found := asked(rng, drawn(rng, test, size), test)).task != task:
        pass
    return with_thoughts(rng, found, test)
