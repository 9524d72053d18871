"""The server's page in headless Chromium, by keyboard and pointer, wide and narrow, light and dark."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from conftest import check_access, watched_page
from playwright.sync_api import Page, expect

import qwen_ref
from qwen_ref.serve.app import create_app
from qwen_ref.serve.service import Service, Settings

SHAPES = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    service = Service(qwen_ref.load(keep=1 << 26), ["tiny"], Settings())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://localhost:{listener.getsockname()[1]}"
        server.should_exit = True
        service.scheduler.stop(0)
        thread.join()


@pytest.fixture(params=["phone-light", "desktop-dark"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Page]:
    """The page; in the end nothing was asked of other places and the console is empty."""
    with watched_page(browser, request.param, address, "data:", "blob:") as page:
        page.goto(address)
        expect(page.locator("h1")).to_have_text("tiny")
        yield page


def ask(page: Page, text: str) -> None:
    page.locator("#ask").fill(text)
    page.locator("#ask").press("Enter")


def answered(page: Page, count: int = 1) -> Any:
    expect(page.locator(".turn.assistant .below span")).to_have_count(count)
    expect(page.locator("#send")).to_be_enabled()
    return page.locator(".turn.assistant").last


def test_a_conversation(page: Page, tmp_path: Path) -> None:
    page.locator("#file").set_input_files(SHAPES)
    expect(page.locator("footer img")).to_have_count(1)
    ask(page, "Describe this picture.")
    answer = answered(page)
    expect(answer.locator(".said")).to_contain_text("square")
    expect(answer.locator(".below")).to_contain_text("tokens at")
    check_access(page)
    ask(page, "What is 2 + 3?")
    expect(answered(page, 2).locator(".said")).not_to_be_empty()
    page.reload()
    expect(page.locator(".turn")).to_have_count(4)
    expect(page.locator(".turn img")).to_have_count(1)


def test_a_turn_is_edited_and_both_versions_stay(page: Page) -> None:
    ask(page, "What is 2 + 3?")
    expect(answered(page).locator(".said")).to_contain_text("5")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the message").fill("What is 4 + 4?")
    page.get_by_label("Edit the message").press("Enter")
    expect(answered(page).locator(".said")).to_contain_text("8")
    expect(page.locator(".turn.user .below")).to_contain_text("2 of 2")
    page.get_by_role("button", name="the version before").click()
    expect(page.locator(".turn.assistant .said")).to_contain_text("5")
    page.get_by_role("button", name="Again").click()
    expect(page.locator(".turn.assistant .below")).to_contain_text("2 of 2")


def test_a_thought_is_folded_and_an_answer_is_stopped(page: Page) -> None:
    page.get_by_label("think first").check()
    ask(page, "What is 2 + 3?")
    thought = answered(page).locator("details.thought")
    expect(thought).not_to_have_attribute("open", "")
    thought.locator("summary").press("Enter")
    expect(thought).to_have_attribute("open", "")
    check_access(page)
    page.get_by_label("think first").uncheck()
    page.route("**/v1/chat/completions", slow)
    ask(page, "Tell me a story.")
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".turn .bad")).to_have_text("Stopped.")
    page.unroute("**/v1/chat/completions")
    ask(page, "What is 2 + 3?")
    expect(page.locator(".turn.assistant").last.locator(".said")).to_contain_text("5")


def slow(route: Any) -> None:
    """Never answered."""


def test_pictures_are_dropped_and_pasted_and_what_is_written_is_text(page: Page) -> None:
    data = base64.b64encode(SHAPES.read_bytes()).decode()
    give = """([kind, data]) => {
        const held = new DataTransfer();
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
        held.items.add(new File([bytes], "a.png", {type: "image/png"}));
        const about = kind === "drop" ? {dataTransfer: held} : {clipboardData: held};
        const event = new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, {bubbles: true, ...about});
        document.getElementById("ask").dispatchEvent(event);
    }"""
    for count, kind in enumerate(["drop", "paste"], 1):
        page.evaluate(give, [kind, data])
        expect(page.locator("footer img")).to_have_count(count)
    page.get_by_role("button", name="remove picture 2").click()
    expect(page.locator("footer img")).to_have_count(1)
    ask(page, "<img src=x onerror=alert(1)>")
    answered(page)
    expect(page.locator(".turn.user .said")).to_have_text("<img src=x onerror=alert(1)>")
    text = "# A\n\n- one **two**\n- `3`\n\n```py\n<b>\n```\n\n| a | b |\n|---|---|\n| 1 | <i> |\n\nend"
    shown = page.evaluate(
        """text => { const made = document.createElement("div"); made.append(...markdown(text));
        return made.innerHTML; }""",
        text,
    )
    assert shown == (
        "<h2>A</h2><ul><li>one <strong>two</strong></li><li><code>3</code></li></ul>"
        '<pre tabindex="0"><code>&lt;b&gt;</code></pre>'
        '<table tabindex="0"><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>&lt;i&gt;</td></tr></table>'
        "<p>end</p>"
    )


def test_an_error_is_told(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Longest answer").fill("0")
    check_access(page)
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=200, content_type="text/event-stream",
        body='data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
        'data: {"error": {"message": "It broke."}}\n\n'))  # fmt: skip
    ask(page, "Hi")
    expect(page.locator(".turn .bad")).to_have_text("It broke.")
    expect(page.locator(".turn.assistant .said")).to_have_text("Half")
