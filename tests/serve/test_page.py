"""The page in Debian's Chromium: what people do, and that nothing goes outside."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from cogjax.data.images import encode_png
from tests.chromium import browser, expect  # noqa: F401

WORDS = "a red apple"


@pytest.fixture
def open_page(browser, painter):  # noqa: F811
    """Opens the page; fails at an error in its console and a request to elsewhere."""
    wrong, contexts = [], []

    def opened(**settings):
        context = browser.new_context(locale="en-GB", **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        expect.set_options(timeout=15_000)
        page.on("console", lambda x: said(x.type, x.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda x: outside(x.url))
        page.goto(f"http://127.0.0.1:{painter.port}/")
        page.get_by_role("radio", name="Draw").wait_for(state="attached")
        return page

    def said(kind, words):
        # Chromium names every answer that is a refusal.
        if kind == "error" and "status of 400" not in words:
            wrong.append(words)

    def outside(url):
        if not url.startswith((f"http://127.0.0.1:{painter.port}/", "data:", "blob:")):
            wrong.append(url)

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path.write_bytes(encode_png(pixels))
    return path


def choose(page, name):
    page.get_by_role("radio", name=name, exact=True).check()


def entry_of(page):
    return page.locator("#feed > li").first


def finish(page):
    """The newest entry, done."""
    entry = entry_of(page)
    expect(entry.locator(".state")).to_contain_text("Done")
    return entry


def draw(page, count="1"):
    page.get_by_label("Prompt").fill(WORDS)
    page.get_by_label("Images").select_option(count)
    page.get_by_role("button", name="Draw", exact=True).click()
    return finish(page)


def saved(page, entry):
    """The image that is downloaded, and its name."""
    with page.expect_download() as found:
        entry.get_by_role("link", name="Save").first.click()
    return Image.open(found.value.path()), found.value.suggested_filename


def test_draw_save_and_draw_again(open_page):
    page = open_page()
    page.get_by_text("More settings").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Temperature").fill("0.5")
    entry = draw(page, "2")
    expect(entry.locator("img")).to_have_count(2)
    expect(entry.locator("img").first).to_have_js_property("naturalWidth", 16)
    expect(entry).to_contain_text("Seed 7")
    image, name = saved(page, entry)
    recipe = json.loads(image.text["cogjax"])
    assert name == "a-red-apple-1.png" and recipe["prompt"] == WORDS
    assert recipe["seed"] == 7 and recipe["settings"]["temperature"] == 0.5
    page.get_by_label("Seed").fill("")
    entry.get_by_role("button", name="Again").click()
    expect(page.locator("#feed > li")).to_have_count(2)
    about = finish(page).locator(".hint").first
    expect(about).not_to_have_text("painter · Seed 7")
    page.reload()  # The list is there again, and so are the images.
    expect(page.locator("#feed > li")).to_have_count(2)
    expect(entry_of(page).locator("img").first).to_have_js_property("naturalWidth", 16)
    page.get_by_role("button", name="Clear the list").click()
    expect(page.locator("#feed > li")).to_have_count(0)


def test_the_best_of_some_by_a_judge(open_page):
    page = open_page()
    page.get_by_label("Best of").select_option("8 by the model")
    entry = draw(page)
    expect(entry.locator("img")).to_have_count(1)
    expect(entry).to_contain_text("The model has not seen these words: zyzzyva")
    expect(entry.locator("figcaption")).to_have_text("Score 0.000")


def test_places_in_the_queue_and_cancel(open_page):
    page = open_page()
    page.get_by_label("Prompt").fill("slowly")
    for _ in range(3):
        page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#feed > li")).to_have_count(3)
    expect(entry_of(page).locator(".state")).to_have_text(re.compile("Waiting, place"))
    for i in range(3):
        entry = page.locator("#feed > li").nth(i)
        entry.get_by_role("button", name="Cancel").click()
    for i in range(3):
        state = page.locator("#feed > li").nth(i).locator(".state")
        expect(state).to_have_text("Cancelled")


def test_paint_over_a_part_with_the_pointer_and_the_keys(open_page, picture):
    page = open_page()
    choose(page, "Edit a part")
    page.get_by_label("Prompt").fill(WORDS)
    go = page.get_by_role("button", name="Draw the part")
    go.click()
    expect(page.get_by_role("alert")).to_have_text("Choose an image first.")
    page.locator("#file").set_input_files(picture)
    go.click()
    expect(page.get_by_role("alert")).to_contain_text("Paint the part")
    canvas = page.get_by_role("application")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 20, steps=3)
    page.mouse.up()
    page.get_by_role("button", name="Undo").click()
    go.click()
    expect(page.get_by_role("alert")).to_contain_text("Paint the part")
    canvas.focus()
    for key in ("ArrowRight", "ArrowDown", " "):
        page.keyboard.press(key)
    page.get_by_label("Images").select_option("1")
    page.get_by_text("More settings").click()
    page.get_by_label("Tries for each hole").fill("1")
    go.click()
    image, _ = saved(page, finish(page))
    before = np.asarray(Image.open(picture))
    after = np.asarray(image)
    np.testing.assert_array_equal(after[:4], before[:4])  # Outside.
    assert (after[8:10, 8:10] != before[8:10, 8:10]).any()


def test_a_result_is_extended_and_varied(open_page):
    page = open_page()
    draw(page).get_by_role("button", name="Use").first.click()
    expect(page.locator("#canvas")).to_be_visible()
    page.get_by_text("More settings").click()
    page.get_by_label("Tries for each hole").fill("1")
    choose(page, "Extend")
    page.get_by_label("Right").fill("0")
    page.get_by_role("button", name="Extend", exact=True).click()
    expect(page.locator("#feed > li")).to_have_count(2)
    image, _ = saved(page, finish(page))
    settings = json.loads(image.text["cogjax"])["settings"]
    assert settings["extend"] == {"left": 4}
    choose(page, "Vary")
    page.get_by_label("Share that is drawn anew").fill("0.25")
    page.get_by_role("button", name="Vary", exact=True).click()
    expect(page.locator("#feed > li")).to_have_count(3)
    image, _ = saved(page, finish(page))
    assert json.loads(image.text["cogjax"])["settings"]["vary"] == 0.25


def test_describe_ask_and_compare(open_page, picture):
    page = open_page()
    choose(page, "Describe")
    page.locator("#file").set_input_files(picture)
    page.get_by_role("button", name="Describe", exact=True).click()
    expect(finish(page).locator(".told")).to_have_text("a grey square")
    choose(page, "Ask")
    page.get_by_label("Question").fill("What colour is it?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(entry_of(page).locator(".told")).to_have_text("grey")
    choose(page, "Compare texts")
    page.get_by_label("Texts, one a line").fill("red\nblue")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(entry_of(page).locator(".told tr")).to_have_text(["red0.000", "blue1.000"])


def test_what_a_model_cannot_do_is_not_there(open_page):
    page = open_page()
    names = page.locator("#modes span").all_text_contents()
    assert "Restyle" not in names and "From an image" not in names
    assert page.locator("#set-steps").count() == 0
    page.get_by_label("Model").select_option("other")
    expect(page.locator("#about")).to_have_text("Paints grey squares")


def test_a_refusal_is_shown_and_words_are_no_markup(open_page):
    page = open_page()
    page.get_by_text("More settings").click()
    page.get_by_label("Top p").fill("0")
    page.get_by_label("Prompt").fill("<b>x</b>")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text(re.compile("^top_p is 0, expected"))
    page.get_by_label("Top p").fill("1")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(finish(page).locator("h3")).to_have_text("Draw: <b>x</b>")
    expect(page.locator("#wrong")).to_have_text("")


def test_a_phone_in_the_dark_in_chinese(open_page):
    page = open_page(
        viewport={"width": 320, "height": 640}, color_scheme="dark", has_touch=True
    )
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.get_by_role("button", name="中文").click()
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.get_by_label("提示词").fill("猫")
    page.get_by_label("张数").select_option("2")
    page.get_by_role("button", name="画图", exact=True).click()
    entry = entry_of(page)
    expect(entry.locator(".state")).to_contain_text("完成")
    expect(entry.get_by_role("link", name="保存")).to_have_count(2)
    page.get_by_text("更多设置").click()
    page.get_by_label("Top p").fill("0")
    page.get_by_role("button", name="画图", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text(re.compile("^服务器.*：top_p is 0"))
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= 320
    left = page.evaluate(
        "[...document.querySelectorAll('[data-text], label, button')]"
        ".filter(x => /undefined/.test(x.textContent)).length"
    )
    assert left == 0


def test_all_is_reached_by_keys(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Go to the results")).to_be_focused()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.name")
        )
    assert {"language", "theme", "model", "mode", "text", "count", "go"} <= reached
    page.locator("[name=mode]:checked").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Edit a part")).to_be_checked()
    page.keyboard.press("ArrowLeft")
    page.get_by_label("Prompt").fill(WORDS)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#feed > li")).to_have_count(1)
    finish(page)
