"""The page of `inspect` in headless Chromium: what it says beside the numbers it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import check_access, watched_page
from PIL import Image
from playwright.sync_api import Page, expect

import qwen_ref
from qwen_ref.inspect.numbers import Run, look
from qwen_ref.inspect.page import page as made_of

SHAPES = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"
WIDE = np.asarray(Image.open(SHAPES).convert("RGB"))[: 5 * 32]  # its upper part: rows are not columns
EVIL = "</script><b>2 + 3</b>"


def looked(model: Any, text: str, **options: Any) -> Run:
    prompt = model.encoded(text, **options)
    return look(model, prompt, text, max_tokens=12, draft="lookup", progress=lambda *about: None)


@pytest.fixture(scope="session")
def runs() -> dict[str, list[Run]]:
    model = qwen_ref.load(backend="numpy")
    picture = looked(model, "Describe this picture.", images=[WIDE])
    return {"picture": [picture], "two": [looked(model, "What is 2 + 3?"), looked(model, EVIL)]}


@pytest.fixture(params=["phone-light", "desktop-dark"])
def opened(
    request: pytest.FixtureRequest, browser: Any, runs: dict[str, list[Run]], tmp_path: Path
) -> Iterator[Any]:
    """Opens the page of these runs; in the end nothing was asked for and the console is empty."""
    with watched_page(browser, request.param, "file:", "data:") as page:

        def open_page(name: str) -> tuple[Page, list[Run]]:
            (tmp_path / "page.html").write_text(made_of(runs[name]), encoding="utf-8")
            page.goto((tmp_path / "page.html").as_uri())
            expect(page.locator("body")).to_have_attribute("data-ready", "yes")
            return page, runs[name]

        yield open_page


def go(page: Page, t: int) -> None:
    """By keys, from where it is; the position is counted from 1."""
    page.evaluate("document.activeElement.blur()")  # in a choice, arrows choose
    at = int(page.locator("#now").inner_text().split()[0]) - 1
    for _ in range(abs(t - at)):
        page.keyboard.press("ArrowRight" if t > at else "ArrowLeft")
    expect(page.locator("#now")).to_contain_text(f"{t + 1} of ")


def percent(share: float) -> str:
    """As the page writes it."""
    n = 100 * share
    return f"{n:.0f} %" if n >= 10 else f"{n:.1f} %" if n >= 0.1 else "<0.1 %"


def near(text: str, share: float) -> bool:
    """Whether a text says this share, but for what a byte rounds off."""
    first = text.split(" %")[0].split()[-1].lstrip("(")
    return share < 0.003 if first.startswith("<") else abs(float(first) / 100 - share) < 0.02


def first(run: Run, text: str, values: Any) -> bool:
    """Whether a text names a token of those that have the largest value, but for what a byte rounds off."""
    size = abs(values)
    close = np.flatnonzero(size >= size.max() - 0.016 * np.sqrt(size.max()))
    return any(named(run, int(s)) in text for s in close)


def pick(page: Page, section: str, layer: int, head: int) -> None:
    page.locator(f"#{section} select").select_option(label=str(layer))
    page.locator(f"#{section} .heads button").nth(head).click()


def test_it_looks_and_is_accessible(opened: Any) -> None:
    for name in "picture", "two":
        page, _ = opened(name)
        check_access(page)


def test_keys_buttons_and_clicks_move_the_token(opened: Any) -> None:
    page, (run,) = opened("picture")
    start = run.prompt_tokens
    expect(page.locator("#now")).to_contain_text(f"{start + 1} of {len(run.token_ids)}")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#now")).to_contain_text(f"{start + 2} of ")
    page.get_by_label("the token before").click()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#now")).to_contain_text(f"{start} of ")
    page.locator("#at").focus()
    page.keyboard.press("End")
    expect(page.locator("#now")).to_contain_text(f"{len(run.token_ids)} of ")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#now")).to_contain_text(f"{len(run.token_ids)} of ")
    token = page.locator("#attention .tok").filter(has_text="Describe")
    token.click()
    expect(page.locator("#now")).to_contain_text("Describe")
    expect(page.locator("#deltanet .tok[aria-selected=true]")).to_have_text("Describe")
    strip = page.locator("#lens ~ section .strip").first
    assert strip.get_attribute("aria-activedescendant") == token.get_attribute("id")


def test_probabilities_and_the_lens_of_a_token(opened: Any) -> None:
    page, (run,) = opened("picture")
    chance, (span,) = np.exp(run.logprobs), run.trace.prompt.spans
    behind = span.start + span.rows * span.columns + 1  # the picture
    differs = behind + int(abs(np.diff(chance))[behind - 1 :].argmax())  # from the token after it
    for t in run.prompt_tokens + 2, differs:
        go(page, t)
        said = page.locator("#text .readout")
        assert near(said.locator("p").first.inner_text().split(" had ")[1], chance[t - 1])
        for n in range(6):
            row = said.locator("ol").first.locator("li").nth(n)
            expect(row).to_contain_text(run.spelled(int(run.best.token_ids[t - 1, n])).strip())
        came = said.locator("li.came")
        expect(came).to_contain_text(run.trace.tokens[t].strip())
        caption = page.locator("#lens .run > .says")
        expect(caption).to_contain_text(run.trace.tokens[t].strip())
        for layer in 0, 5, 7:
            for half, name in enumerate(("mixed", "output")):
                best = run.lens[f"layers.{layer}.{name}"]
                cell = page.locator("#lens tbody tr").nth(layer).locator("td").nth(half)
                text = run.spelled(int(best.token_ids[t, 0])).strip()
                expect(cell.locator(".best")).to_contain_text(text)
                expect(cell.locator(".best")).to_contain_text(percent(float(np.exp(best.logprobs[t, 0]))))


def test_attention_by_layer_head_and_direction(opened: Any) -> None:
    page, (run,) = opened("picture")
    for layer, head, t in (3, 1, run.prompt_tokens + 3), (7, 2, run.prompt_tokens + 1):
        pick(page, "attention", layer, head)
        go(page, t)
        said = page.locator("#attention .readout")
        row = run.attention[layer][head, t]
        expect(said).to_contain_text(f"Layer {layer}, head {head}:")
        text = said.inner_text().split("looks at")[1]
        assert near(text, row.max()), (text, row.max())
        assert first(run, text.split("%")[0], row)
    page.locator("#attention").get_by_label("what looks at it").check()
    s = run.prompt_tokens - 1
    go(page, s)
    column = run.attention[7][2, :, s]
    text = page.locator("#attention .readout").inner_text().split("looked at by")[1]
    assert near(text, column.max()) and first(run, text.split("%")[0], column)


def named(run: Run, t: int) -> str:
    (span,) = run.trace.prompt.spans
    if 0 <= (at := t - span.start) < span.rows * span.columns:
        return f"row {at // span.columns + 1}, column {at % span.columns + 1}"
    return run.trace.tokens[t].replace("\n", "⏎").strip() or "␣"


def test_what_a_state_holds(opened: Any) -> None:
    page, (run,) = opened("picture")
    remembers = {(layer, h): x.left[h].sum() for layer, x in run.delta.items() for h in range(1, len(x.left))}
    layer, head = max(remembers, key=lambda place: remembers[place])  # another than the first
    found, t = run.delta[layer], run.prompt_tokens + 5
    pick(page, "deltanet", layer, head)
    go(page, t)
    said, lanes = page.locator("#deltanet .readout"), page.locator("#deltanet .lane .value")
    expect(said).to_contain_text(f"Layer {layer}, head {head}:")
    names = "decay", "beta", "writes", "erases", "fades", "norm", "rank"
    for n, name in enumerate(names):
        values = getattr(found, name)[:, head]
        assert abs(float(lanes.nth(n).inner_text()) - values[t]) <= 0.01 * values[t] + 1e-3 * values.max()
    amount = found.left[head, t] * found.wrote[:, head]
    assert abs(float(lanes.nth(7).inner_text().split()[0]) - amount.sum()) < 0.02 * amount.sum()
    text = said.inner_text().split("holds")[1]
    assert first(run, text.split("(")[0], amount / amount.max())
    shares = [float(part.split("(")[-1]) / 100 for part in text.split(" % of what it wrote")[:-1]]
    assert all(abs(found.left[head, t] - share).min() < 0.008 for share in shares)
    page.locator("#deltanet").get_by_label("what the token reads of each").check()
    reads = found.reads[head, t]
    text = said.inner_text().split("was written by")[1]
    share = float(text.split(" %")[0].split("(")[-1]) / 100
    assert abs(abs(share) - abs(reads).max()) < 0.07 and abs(reads - share).min() < 0.07
    assert any(named(run, int(s)) in text.split("%")[0] for s in np.flatnonzero(abs(reads - share) < 0.07))
    page.locator("#deltanet").get_by_label("of this token, later on").check()
    column = found.reads[head, :, t]
    text = said.inner_text().split("is read by")[1]
    share = float(text.split(" %")[0].split("(")[-1]) / 100
    assert any(named(run, int(s)) in text.split("%")[0] for s in np.flatnonzero(abs(column - share) < 0.07))


def test_pointing_shows_and_leaving_restores(opened: Any) -> None:
    page, (run,) = opened("picture")
    now = page.locator("#now")
    before = now.inner_text()
    page.locator("#attention .tok").filter(has_text="Describe").hover()
    expect(now).to_contain_text("Describe")
    page.locator("#attention h2").hover()
    expect(now).to_have_text(before)
    big, T = page.locator("#attention .map canvas"), len(run.token_ids)
    big.scroll_into_view_if_needed()
    box = big.bounding_box()
    assert box
    t, s = T - 2, 2
    page.mouse.move(box["x"] + (s + 0.5) * box["width"] / T, box["y"] + (t + 0.5) * box["height"] / T)
    expect(now).to_contain_text(f"{t + 1} of ")
    caption = page.locator("#attention figcaption")
    assert near(caption.inner_text(), float(run.attention[3][0, t, s]))
    page.mouse.click(box["x"] + (s + 0.5) * box["width"] / T, box["y"] + (t + 0.5) * box["height"] / T)
    page.locator("#attention h2").hover()
    expect(now).to_contain_text(f"{t + 1} of ")


def test_nothing_moves_while_one_points(opened: Any) -> None:
    page, (run,) = opened("picture")
    tops = set()
    for t in range(0, len(run.token_ids), 3):
        page.evaluate("t => hover(HEAD.runs[0], t)", t)
        tops.add(page.evaluate("document.querySelector('#costs').offsetTop"))
    assert len(tops) == 1


def test_a_patch_of_the_picture_is_a_token(opened: Any) -> None:
    page, (run,) = opened("picture")
    (span,) = run.trace.prompt.spans
    canvas = page.locator("#attention .picture canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box and abs(box["width"] / box["height"] - span.columns / span.rows) < 0.05
    row, column = span.rows - 2, span.columns - 2
    canvas.click(position={
        "x": (column + 0.5) * box["width"] / span.columns,
        "y": (row + 0.5) * box["height"] / span.rows,
    })  # fmt: skip
    expect(page.locator("#now")).to_contain_text(f"picture 1, row {row + 1}, column {column + 1}")
    expect(page.locator("#now")).to_contain_text(f"{span.start + row * span.columns + column + 1} of")
    expect(page.locator("#text .readout")).to_contain_text("which is not guessed")
    t = run.prompt_tokens + 4
    seen = run.attention[3][:, t, span.start : span.start + span.rows * span.columns]
    head = int(seen.max(axis=1).argmax())  # which looks at the picture most: its shares are told apart
    pick(page, "attention", 3, head)
    go(page, t)
    share = seen[head]
    data = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    thin = canvas.evaluate(data)[3::4]
    assert int(np.argmin(thin)) == int(share.argmax()) and len(thin) == len(share)


def test_two_runs_go_together(opened: Any) -> None:
    page, (one, other) = opened("two")
    left, right = (page.locator("#text .run").nth(n).bounding_box() for n in range(2))
    assert left and right
    width = page.viewport_size["width"]  # type: ignore[index]
    assert (left["y"] == right["y"]) == (width > 1000)
    expect(page.locator("#text h3").nth(1)).to_have_text(f"B: {EVIL}")
    assert page.locator("main b").filter(has_text="2 + 3").count() == 0
    selected = page.locator("#text .tok[aria-selected=true]")
    expect(page.locator("#now")).to_contain_text(f"{one.prompt_tokens + 1} of {len(one.token_ids)}")
    for n, run in enumerate((one, other)):  # both at the beginning of the answer
        index = page.locator("#text .strip").nth(n).locator(".tok").evaluate_all(
            "all => all.findIndex(x => x.ariaSelected === 'true')")  # fmt: skip
        assert index == run.prompt_tokens
    go(page, 1)
    expect(selected.nth(0)).to_have_text(one.trace.tokens[1])
    expect(selected.nth(1)).to_have_text(other.trace.tokens[1])
    page.locator("#text .strip").nth(1).locator(".tok").nth(len(other.token_ids) - 1).click()
    expect(page.locator("#now")).to_contain_text(f"{len(other.token_ids)} of {len(other.token_ids)}")


def test_the_other_colours(opened: Any) -> None:
    page, _ = opened("two")
    paint = "document.querySelector('.map canvas').toDataURL()"
    before = page.evaluate(paint)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if dark else "dark")
    page.wait_for_function(f"before => {paint} !== before", arg=before)
