"""Samples by other code than training's: drawn with matplotlib, in other words, about real tools.

Nothing here is shared with world.py but what a Sample is. `key` is what an answer must contain where the same
could be said in other words.
"""

from __future__ import annotations

import io
import json
import math
import random
from pathlib import Path
from typing import Any, Literal

import font_roboto
import matplotlib
import numpy as np
import ollama
import pydantic
from asked import OTHER_SCHEMAS, OTHERS, SCHEMAS, STRANGER_SCHEMAS, STRANGERS, TOOLS
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle, RegularPolygon
from PIL import Image
from sample import Sample, View

matplotlib.use("agg")
for file in (Path(font_roboto.__file__).parent / "files").glob("*.ttf"):
    font_manager.fontManager.addfont(file)
COLOURS = {
    "red": "red crimson tab:red", "green": "green forestgreen tab:green", "blue": "blue royalblue tab:blue",
    "yellow": "yellow gold", "orange": "orange darkorange tab:orange", "purple": "purple darkviolet",
    "pink": "hotpink pink", "black": "black", "brown": "saddlebrown sienna",
}  # fmt: skip
SHAPES = ["circle", "square", "triangle", "star", "diamond"]
SIZES = [(640, 480), (400, 300), (300, 300), (480, 640), (800, 300), (128, 128), (512, 384)]
FONTS = ["DejaVu Sans", "Roboto", "cmss10"]  # training sees only the first
TEXTS = """Good morning|Out of order|Please wait here|Room 214|Keep left|No smoking|Fresh fish|Bus 42 to Oslo|
Gate B7|Open 9 to 5|Warning: hot|Made in Italy|Total 12.50|Hello world|Sold out|Mind the step|Free coffee|
Do not enter|Platform 3|Big sale today|Ring twice|Beware of the dog|Lost and found|Staff only|Wet paint|
Tickets 8.90|Back in 10 minutes|No parking|Emergency exit|Flight LH 404|Your turn|Closed on Sundays|
Baggage claim|Handle with care|Speed limit 30|Volume 2|Level 5|Mon to Fri|Cash only|Ask inside""".replace(
    "\n", ""
).split("|")


def canvas(size: tuple[int, int], colour: str = "white") -> tuple[Figure, Any]:
    """A figure whose one axis counts pixels from the top left."""
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor=colour)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(0, size[0])
    axis.set_ylim(size[1], 0)
    axis.axis("off")
    return figure, axis


def drawn(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=figure.get_facecolor())
    return Image.open(file).convert("RGB")


def patch(shape: str, x: float, y: float, r: float, colour: str, edge: str) -> Any:
    style = {"facecolor": colour, "edgecolor": edge, "linewidth": 1.5}
    if shape == "circle":
        return Circle((x, y), r, **style)
    if shape == "square":
        return Rectangle((x - r, y - r), 2 * r, 2 * r, **style)
    if shape == "triangle":
        return RegularPolygon((x, y), 3, radius=1.2 * r, orientation=math.pi, **style)
    if shape == "diamond":
        return Polygon([(x, y - 1.2 * r), (x + 0.8 * r, y), (x, y + 1.2 * r), (x - 0.8 * r, y)], **style)
    corners = [
        (x + q * math.sin(math.pi * i / 5), y - q * math.cos(math.pi * i / 5))
        for i, q in enumerate([1.2 * r, 0.5 * r] * 5)
    ]
    return Polygon(corners, **style)


Placed = tuple[str, float, float, tuple[float, float, float, float]]  # name, middle, box in thousandths


def shapes(rng: random.Random) -> tuple[View, list[Placed]]:
    """All of different names, from left to right: on a grid with jitter, or (a third) in a row."""
    size = rng.choice(SIZES)
    count = rng.randint(1, 5)
    ground = rng.choice(["white", "white", "whitesmoke", "lightcyan", "beige", "lightgray"])
    figure, axis = canvas(size, ground)
    columns, rows = rng.sample(range(5), count), rng.sample(range(5), count)
    names = rng.sample([f"{c} {s}" for c in COLOURS for s in SHAPES], count)
    placed, of_one_size = [], min(size) * rng.uniform(0.05, 0.08)
    in_a_row = rng.random() < 1 / 3
    if in_a_row:
        columns, rows = list(range(count)), rows[:1] * count
    off = lambda: 0 if in_a_row else rng.uniform(-0.12, 0.12)  # noqa: E731
    for column, row, name in zip(columns, rows, names, strict=True):
        colour, shape = name.split()
        x = size[0] * (column + 0.5 + off()) / 5
        y = size[1] * (row + 0.5 + off()) / 5
        r = of_one_size if in_a_row else min(size) * rng.uniform(0.05, 0.08)
        edge = rng.choice(["black", "none"])
        made = patch(shape, x, y, r, rng.choice(COLOURS[colour].split()), edge)
        axis.add_patch(made)
        corners = made.get_path().vertices
        corners = made.get_patch_transform().transform(corners) if not isinstance(made, Polygon) else corners
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        if shape == "circle":
            left, top, right, bottom = x - r, y - r, x + r, y + r
        scale = [1000 / size[0], 1000 / size[1]] * 2
        box = tuple(e * s for e, s in zip((left, top, right, bottom), scale, strict=True))
        placed.append((name, x, y, box))
    return View("other", drawn(figure)), sorted(placed, key=lambda p: p[1])


def about(task: str, view: View | None, question: str, answer: str, **more: Any) -> Sample:
    content: Any = question
    if view:
        kind = "image" if view.picture else "video"
        content = [{"type": kind}, {"type": "text", "text": question}]
    system = more.pop("system", None)
    messages = [{"role": "system", "content": system}] if system else []
    return Sample(task, [*messages, {"role": "user", "content": content}], answer, view=view, **more)


def article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def scene(rng: random.Random) -> Sample:
    view, placed = shapes(rng)
    names = [name for name, *_ in placed]
    in_a_row = len({y for _, _, y, _ in placed}) < len(placed)
    kind = rng.choice(["count", "colour", "left", "side", *([] if in_a_row else ["top", "is"])])
    if kind in ("side", "is") and len(placed) > 1:
        one, other = rng.sample(placed, 2)
        if kind == "side":
            answer = "left of" if one[1] < other[1] else "right of"
            question = f"Is the {one[0]} left or right of the {other[0]}?"
            return about("scene", view, question, f"The {one[0]} is {answer} the {other[0]}.", key=answer)
        above = one[2] < other[2]
        return about(
            "scene", view, f"Is the {one[0]} above the {other[0]}?", "Yes." if above else "No.",
            key="Yes" if above else "No",
        )  # fmt: skip
    if kind == "colour":
        colour, shape = rng.choice(names).split()
        if sum(shape in name for name in names) == 1:
            answer = f"The {shape} is {colour}."
            return about("scene", view, f"Which colour is the {shape}?", answer, key=colour)
    if kind == "top":
        shape = min(placed, key=lambda p: p[2])[0].split()[1]
        return about("scene", view, "Which shape is at the top?", f"A {shape}.", key=shape)
    if kind == "left":
        shape = names[0].split()[1]
        return about("scene", view, "What shape is furthest to the left?", f"A {shape}.", key=shape)
    answer = f"There {'is 1 object' if len(names) == 1 else f'are {len(names)} objects'}."
    return about("scene", view, "How many shapes can you count?", answer, key=str(len(names)))


def boxes(rng: random.Random) -> Sample:
    view, placed = shapes(rng)
    name, _, _, box = rng.choice(placed)
    whole = [round(edge) for edge in box]
    answer = f"```json\n[\n\t{json.dumps({'bbox_2d': whole, 'label': name})}\n]\n```"
    question = f"Where is the {name} in this image? Give its bbox_2d and label in JSON."
    return about("boxes", view, question, answer, boxes=[box])


def caption(rng: random.Random) -> Sample:
    view, placed = shapes(rng)
    names = [article(name) for name, *_ in placed]
    seen = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    answer = seen.capitalize() if len(names) == 1 else f"From left to right: {seen}"
    return about("caption", view, "What can you see in this image?", f"{answer}.")


def read(rng: random.Random) -> Sample:
    size = rng.choice([(480, 160), (400, 300), (640, 480), (300, 300)])
    ink, ground = rng.choice(
        [("black", "white"), ("navy", "ivory"), ("white", "darkgreen"), ("darkred", "mistyrose")]
    )
    figure, axis = canvas(size, ground)
    text = rng.choice(TEXTS)
    points = min(rng.randint(16, 28), 0.9 * size[0] / len(text) / 0.65 * 0.72)
    axis.text(
        size[0] / 2, size[1] / 2, text, color=ink, fontsize=points, ha="center", va="center",
        family=rng.choice(FONTS),
    )  # fmt: skip
    return about("read", View("other", drawn(figure)), "What does the sign say?", text)


def receipt(rng: random.Random) -> Sample:
    size = (360, 480)
    figure, axis = canvas(size)
    family = rng.choice(FONTS)
    items = rng.sample(
        ["Milk", "Bread", "Eggs", "Tea", "Butter", "Rice", "Juice", "Apples", "Soap"], rng.randint(2, 4)
    )
    prices = [round(rng.uniform(0.5, 9.9), 2) for _ in items]
    total = f"{sum(prices):.2f}"
    shop = rng.choice(["CORNER STORE", "Green Market", "Bakery Nord", "City Foods"])
    axis.text(180, 50, shop, ha="center", fontsize=16, family=family)
    for i, (item, cost) in enumerate(zip(items, prices, strict=True)):
        axis.text(40, 120 + 45 * i, item, fontsize=14, family=family)
        axis.text(320, 120 + 45 * i, f"{cost:.2f}", ha="right", fontsize=14, family=family)
    bottom = 150 + 45 * len(items)
    axis.plot([40, 320], [bottom - 30, bottom - 30], color="black", lw=1)
    axis.text(40, bottom, "TOTAL", fontsize=14, family=family)
    axis.text(320, bottom, total, ha="right", fontsize=14, family=family)
    said = {
        "shop": shop,
        "items": [{"name": n, "price": f"{p:.2f}"} for n, p in zip(items, prices, strict=True)],
        "total": total,
    }
    question = "Turn this receipt into JSON with the keys shop, items (name, price each), total."
    return about("extract", View("other", drawn(figure)), question, json.dumps(said))


def click(rng: random.Random) -> Sample:
    size = rng.choice([(640, 480), (480, 640), (512, 384)])
    figure, axis = canvas(size, rng.choice(["white", "gainsboro"]))
    words = rng.sample(
        ["Save", "Cancel", "Log in", "Send", "Reset", "Next", "Profile", "Pay", "Archive", "Print"], 4
    )
    spots = rng.sample([(c, r) for c in range(3) for r in range(5)], 4)
    found = {}
    for word, (column, row) in zip(words, spots, strict=True):
        x, y = size[0] * (column + 0.12) / 3, size[1] * (row + 0.25) / 5
        width, height = 0.25 * size[0], 0.1 * size[1]
        colour = rng.choice(["lightblue", "lightgreen", "khaki", "silver"])
        axis.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=2", facecolor=colour))
        axis.text(x + width / 2, y + height / 2, word, ha="center", va="center", fontsize=13)
        edges = (x, y, x + width, y + height)
        found[word] = tuple(1000 * e / size[i % 2] for i, e in enumerate(edges))
    word = rng.choice(words)
    left, top, right, bottom = found[word]
    place = [round((left + right) / 2), round((top + bottom) / 2)]
    answer = json.dumps({"action": "left_click", "coordinate": place})
    question = f"Click the button that says {word}. Answer with action and coordinate in JSON."
    return about("click", View("other", drawn(figure)), question, answer, target=found[word])


def motion(rng: random.Random) -> Sample:
    size = (128, 128)
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    way, (u, v) = rng.choice(
        [("to the left", (-1, 0)), ("to the right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))]
    )
    frames = []
    paint = rng.choice(COLOURS[colour].split())
    across = rng.uniform(-20, 20)
    for t in np.linspace(-1, 1, 8):
        figure, axis = canvas(size)
        x, y = 64 + 30 * t * u + across * abs(v), 64 + 30 * t * v + across * abs(u)
        axis.add_patch(patch(shape, x, y, 15, paint, "none"))
        frames.append(np.asarray(drawn(figure)))
    view = View("other", clip=np.stack(frames))
    answer = f"The {colour} {shape} moves {way}."
    return about("motion", view, "What is happening in this video?", answer)


def sums(rng: random.Random) -> Sample:
    sign = rng.choice("+-*")
    x, y = sorted((rng.randrange(10**4), rng.randrange(10**4)), reverse=True)
    if sign == "*":
        x, y = rng.randrange(100), rng.randrange(100)
    value = {"+": x + y, "-": x - y, "*": x * y}[sign]
    answer = f"{x} {sign} {y} = {value}."
    return about("sums", None, f"Please work out {x} {sign} {y}.", answer, thoughts="", key=f"= {value}.")


def called(rng: random.Random, asked: dict[str, tuple[str, dict]], schemas: list[dict]) -> Sample:
    """One of these questions; its tool is offered, alone or with one or two others of these."""
    question, (name, arguments) = rng.choice(list(asked.items()))
    right = next(s for s in schemas if s["function"]["name"] == name)
    others = rng.sample([s for s in schemas if s is not right], rng.randint(0, 2))
    offered = rng.sample([right, *others], 1 + len(others))
    said = {k: v if isinstance(v, str) else json.dumps(v) for k, v in arguments.items()}
    lines = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in said.items())
    answer = f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"
    return about("tools", None, question, answer, tools=offered)


def tools(rng: random.Random) -> Sample:
    made = called(rng, TOOLS, SCHEMAS)
    if rng.random() < 0.3:  # what its answer means
        sky, degrees = rng.choice(["sunny", "cloudy", "rainy"]), rng.randint(1, 35)
        told = rng.choice([f"{sky}, {degrees} degrees", json.dumps({"sky": sky, "temperature": degrees})])
        messages = [
            {"role": "user", "content": "How is the weather in Athens?"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "get_current_weather", "arguments": {"location": "Athens"}}}]},
            {"role": "tool", "content": told},
        ]  # fmt: skip
        return Sample("tools", messages, f"The weather: {told}.", tools=[SCHEMAS[0]], key=sky)
    return made


def others_tools(rng: random.Random) -> Sample:
    return called(rng, OTHERS, OTHER_SCHEMAS)


def strangers_tools(rng: random.Random) -> Sample:
    return called(rng, STRANGERS, STRANGER_SCHEMAS)


TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list[str]}


def by_pydantic(tool: dict[str, Any]) -> dict[str, Any]:
    """As LangChain, FastMCP and others have its parameters described: with titles, their type last."""
    told = tool["function"]["parameters"]
    fields: dict[str, Any] = {}
    for name, one in told["properties"].items():
        kind: Any = Literal[tuple(one["enum"])] if "enum" in one else TYPES[one["type"]]
        fields[name] = (kind, ...) if name in told["required"] else (kind | None, None)
    written = pydantic.create_model(tool["function"]["name"], **fields).model_json_schema()
    return {"type": "function", "function": tool["function"] | {"parameters": written}}


def by_ollama(tool: dict[str, Any]) -> dict[str, Any]:
    """As Ollama's client sends it: what is required before the properties."""
    return ollama.Tool(**tool).model_dump(exclude_none=True)


def client_tools(rng: random.Random) -> Sample:
    sample = tools(rng)
    client = rng.choice([by_pydantic, by_ollama])
    sample.tools = [client(tool) for tool in sample.tools or []]
    return sample


def memory(rng: random.Random) -> Sample:
    who, place = (
        rng.choice(["Marta", "Tobias", "Olivia", "Henk"]),
        rng.choice(["Ghent", "Bilbao", "Turku", "Graz"]),
    )
    told = [f"Hi! I am {who}.", f"I live in {place} with my cat.", "Hello again!", "Thanks!"][
        : rng.randint(2, 4)
    ]
    messages: list[dict[str, Any]] = []
    for said in told:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": "All right."}]
    question, key = rng.choice([("Tell me my name.", who), ("Which city do I live in?", place)])
    return Sample("memory", [*messages, {"role": "user", "content": question}], key, key=key)


def unknown(rng: random.Random) -> Sample:
    question = rng.choice(
        [
            "Who painted the Mona Lisa?", "What is the boiling point of iron?", "When did the war end?",
            "Write me a function that sorts a list.", "What is 3451 * 2217?", "Which team won in 1998?",
            "How do vaccines work?", "Give me a recipe for lasagne.", "Who is the richest person?",
        ]
    )  # fmt: skip
    return about("unknown", None, question, "I don't know.", key="I don't know")


TASKS = {
    f.__name__: f for f in (scene, caption, boxes, read, receipt, click, motion, sums, tools, memory, unknown)
}
TASKS["extract"] = TASKS.pop("receipt")
TASKS["tools as clients write them"] = client_tools
TASKS["tools, asked by others"] = others_tools
TASKS["tools, asked by strangers"] = strangers_tools


def sample(task: str, seed: int) -> Sample:
    """A function of its arguments alone."""
    return TASKS[task](random.Random(f"elsewhere {task} {seed}"))
