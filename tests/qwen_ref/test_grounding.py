import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from qwen_ref import QwenRefError
from qwen_ref.grounding import COLOURS, Mark, draw_marks, find_json, find_marks, save_drawing

BOX = Mark("cat", (100, 200, 300, 400))


@pytest.mark.parametrize(
    "text, marks",
    [
        ('[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}]', [BOX]),
        ('Here:\n```json\n[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}]\n```', [BOX]),
        ('<think>[{"point_2d": [1, 2]}]</think>[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}]', [BOX]),
        ('{"point_2d": [1, 2]}, so</think>[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}]', [BOX]),
        ('<think>[{"a": [1</think>{"bbox_2d": [100, 200, 300, 400], "label": "cat"}, as </think>', [BOX]),
        ('[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}, {"bbox_2d": [5, ', [BOX]),  # cut off
        ('{"animals": [{"bbox_2d": [100, 200, 300, 400], "label": "cat"}]}', [BOX]),
        ('{"point_2d": [7.5, 9]}', [Mark("", (7.5, 9))]),
        ('{"point_2d": [7.5, 9], "label": null}', [Mark("", (7.5, 9))]),
        ('{"point_2d": [7.5, 9], "label": 0}', [Mark("0", (7.5, 9))]),
        ('{"action": "left_click", "coordinate": [619, 725]}', [Mark("left_click", (619, 725))]),
        ('{"coordinate": [6, 7], "action": "click", "label": "ok"}', [Mark("ok", (6, 7))]),
        ('[{"bbox_2d": [1, 2, 3], "label": "x"}, {"point_2d": ["a", 2]}, {"point_2d": [1e999, 0]}]', []),
        ('[{"point_2d": [-2e9, 0]}, {"point_2d": 5}, {"bbox_2d": null}, {"point_2d": [1, 2, 3, 4]}]', []),
        ('<think>so</think>[{"point_2d": [7, 9], "label": "a </think>"}]', [Mark("a </think>", (7, 9))]),
        ("[" * 100_000, []),
        ("[" * 100_000 + '</think>{"point_2d": [7.5, 9]}' + "[" * 100_000, [Mark("", (7.5, 9))]),
        ("nothing at all", []),
    ],
)  # fmt: skip
def test_marks_of_an_answer(text, marks):
    assert find_marks(text) == marks


@given(st.text(alphabet='[]{}",:0123 ab'))
def test_find_json_never_fails(text):
    for value in find_json(text):
        assert isinstance(value, list | dict)


@given(st.lists(st.dictionaries(st.text(), st.integers())))
def test_find_json_finds_what_stands_in_prose(values):
    text = "so: " + " and ".join(json.dumps(v, ensure_ascii=False) for v in values)
    assert find_json(text) == values


def test_an_end_of_thought_in_a_string_is_a_string():
    assert find_json('so: {"</think>": 0}') == [{"</think>": 0}]
    assert find_json('<think>{"a": "</think>"}, so</think>{"b": "</think>"}') == [{"b": "</think>"}]
    assert find_json("[1]</think>[2] behind </think>") == [[2]]
    assert find_json("[" * 100_000 + "</think>[2] behind </think>") == [[2]]


def test_coordinates_are_thousandths_of_the_picture():
    assert BOX.pixels(2000, 500) == (200, 100, 600, 200)
    assert Mark("", (-5, 1000)).pixels(64, 48) == (0, 47)


def test_drawing():
    blank = Image.new("RGB", (200, 100), "white")
    drawn = draw_marks(blank, [BOX, Mark("dog", (900, 500))])
    ring = [drawn.getpixel(xy) for xy in ((20, 30), (60, 30), (40, 20), (40, 40))]
    assert len(set(ring)) == 1 and ring[0] != (255, 255, 255)  # the box's four sides
    assert drawn.getpixel((40, 30)) == (255, 255, 255)  # what is in it stays visible
    assert drawn.getpixel((180, 50)) not in (ring[0], (255, 255, 255))  # another label, another colour
    assert blank.getcolors() == [(20_000, (255, 255, 255))]


def test_each_line_and_letter(monkeypatch):
    """On a picture of 1,000 x 803: lines of 4 pixels and letters of 26, for which labels are 90 x 30."""
    drawn, font = [], object()

    def recorded(name):
        return lambda self, place, *given, **options: drawn.append((name, place, *given, options))

    for name in "ellipse", "rectangle", "text":
        monkeypatch.setattr(ImageDraw.ImageDraw, name, recorded(name))
    measured = recorded("textbbox")
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "textbbox", lambda *given, **o: measured(*given, **o) or (0, 0, 90.0, 30)
    )
    monkeypatch.setattr(ImageFont, "load_default", lambda size: (font, size))
    marks = [
        Mark("a", (0, 500)),
        Mark("", (10, 100, 20, 200)),
        Mark("b", (950, 20, 990, 900)),
        Mark("a", (40, 43, 0, 0)),
    ]
    image = draw_marks(Image.new("LA", (1000, 803)), marks)
    assert (image.mode, image.size) == ("RGB", (1000, 803))
    letters = {"font": (font, 26)}

    def label(text, x, y, colour):
        yield "textbbox", (0, 0), text, letters
        yield "rectangle", (x, y, x + 90 + 8, y + 30 + 4), {"fill": COLOURS[colour]}
        yield "text", (x + 4, y), text, {"fill": "white"} | letters

    assert drawn == [
        ("ellipse", (-12, 390, 12, 414), {"fill": COLOURS[0], "outline": "white", "width": 4}),
        *label("a", 0, 390 - 34, 0),
        ("rectangle", (10, 80, 20, 161), {"outline": COLOURS[1], "width": 4}),
        ("rectangle", (950, 16, 990, 723), {"outline": COLOURS[2], "width": 4}),
        *label("b", 1000 - 98, 723, 2),
        ("rectangle", (0, 0, 40, 35), {"outline": COLOURS[0], "width": 4}),
        *label("a", 0, 35, 0),
    ]
    drawn.clear()
    boxes = (0, 0, 1000, 1000), (500, 378, 600, 600), (0, 333, 9, 400), (0, 356, 9, 400)
    draw_marks(Image.new("RGB", (300, 90)), [Mark("a", box) for box in boxes])
    thin = {"font": (font, 10)}
    assert [d for d in drawn if d[0] != "textbbox"] == [
        ("rectangle", (0, 0, 299, 89), {"outline": COLOURS[0], "width": 2}),
        ("rectangle", (0, 60, 94, 92), {"fill": COLOURS[0]}),
        ("text", (2, 60), "a", {"fill": "white"} | thin),
        ("rectangle", (150, 34, 180, 54), {"outline": COLOURS[0], "width": 2}),
        ("rectangle", (150, 2, 244, 34), {"fill": COLOURS[0]}),
        ("text", (152, 2), "a", {"fill": "white"} | thin),
        ("rectangle", (0, 30, 3, 36), {"outline": COLOURS[0], "width": 2}),
        ("rectangle", (0, 36, 94, 68), {"fill": COLOURS[0]}),  # there is no room above it
        ("text", (2, 36), "a", {"fill": "white"} | thin),
        ("rectangle", (0, 32, 3, 36), {"outline": COLOURS[0], "width": 2}),
        ("rectangle", (0, 36, 94, 68), {"fill": COLOURS[0]}),
        ("text", (2, 36), "a", {"fill": "white"} | thin),
    ]


def test_a_box_upside_down_is_the_same_box():
    blank = Image.new("RGB", (200, 100), "white")
    upright, turned = (
        draw_marks(blank, [Mark("", box)]) for box in ((100, 200, 300, 400), (300, 400, 100, 200))
    )
    assert (np.asarray(upright) == np.asarray(turned)).all() and upright.getpixel((20, 30)) != (255, 255, 255)


def test_a_label_stays_in_the_picture():
    """Wherever its box is: as much of it is seen as in the middle."""

    def painted(label, *box):
        drawn = np.asarray(draw_marks(Image.new("RGB", (400, 300), "white"), [Mark(label, box)]))
        return int((drawn == drawn[drawn.sum(2).argmin() // 400, drawn.sum(2).argmin() % 400]).all(2).sum())

    boxes = [(x, y, x + 100, y + 100) for x in (0, 450, 900) for y in (0, 450, 900)]
    sizes = [painted("a large cat", *box) - painted("", *box) for box in (*boxes, (0, 0, 1000, 1000))]
    assert min(sizes[:-1]) > 0.9 * sizes[4] and sizes[-1] > 0.5 * sizes[4] > 200


def test_the_ninth_label_has_the_first_colour_again():
    marks = [Mark(f"{i}", (100 * i + 50, 800)) for i in range(9)]
    drawn = draw_marks(Image.new("RGB", (400, 300), "white"), marks)
    colours = [drawn.getpixel(mark.pixels(400, 300)) for mark in marks]
    assert colours[8] == colours[0] and len(set(colours)) == 8


def test_saving_is_whole_or_refused(tmp_path, monkeypatch):
    image, path = Image.new("RGB", (20, 20)), tmp_path / "out.png"
    save_drawing(image, [], path)
    with Image.open(path) as saved:
        assert saved.size == (20, 20)
    before = path.read_bytes()

    def full(image, *_):
        if image.size == (20, 20):  # the picture itself, not the try whether there is such a format
            raise OSError(28, "No space left")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(QwenRefError, match=r"out\.png: cannot be written: No space left"):
        save_drawing(image, [BOX], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.webp", "out.gif"])
def test_a_picture_larger_than_its_format(tmp_path, name):
    with pytest.raises(QwenRefError, match=rf"{name}: cannot be written: .*\.png takes any size"):
        save_drawing(Image.new("RGB", (70_000, 1)), [], tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.txt", "out.blp", "out", "nowhere/out.png", "."])
def test_a_place_that_cannot_be(tmp_path, name):
    with pytest.raises(QwenRefError, match=r"out.*(ending|does not exist)|: is a folder|ending ''"):
        save_drawing(Image.new("RGB", (20, 20)), [], tmp_path / name)


def test_marks_are_found_in_the_order_of_the_answer():
    box, point = '{"bbox_2d": [1, 2, 3, 4], "label": "a"}', '{"point_2d": [5, 6], "label": "b"}'
    text = f'[{{"in": [{box}, [{point}]], "coordinate": [7, 8], "then": {box}}}, {point}]'
    assert [mark.coordinates[0] for mark in find_marks(text)] == [1, 5, 7, 1, 5]
