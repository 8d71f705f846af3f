"""The page of raters in Chromium: by keys and pointer, kept, saved, read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from cogjax.evaluate.human.analysis import analyse
from cogjax.evaluate.human.answers import collect
from cogjax.evaluate.human.candidates import Folder
from cogjax.evaluate.human.make import Design, make
from cogjax.evaluate.human.study import NOISE, Prompt
from tests.chromium import browser, expect  # noqa: F401

PROMPTS = [Prompt(f"prompt <i>{i}</i> 猫 @script@", "ab"[i % 2]) for i in range(4)]


class Painted(Folder):
    """Images of one grey, that are in no folder."""

    def check(self, prompts, count):
        pass

    def read(self, prompts, count):
        return [[np.full((16, 16, 3), self.path, np.uint8)] * count for _ in prompts]

    def digest(self, prompts, count):
        return str(self.path)


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """The study and the file of a page; made once a design."""
    made = {}

    def page(form, models=2, **settings):
        key = form, models, *settings.items()
        if key not in made:
            out = tmp_path_factory.mktemp(form)
            drawn = {f"m{i}": Painted(60 * (i + 1), {}) for i in range(models)}
            design = Design(form, **{"checks": 1, "num_images": 1} | settings)
            made[key] = make(out, drawn, PROMPTS, design, lambda *words: None), out
        return made[key]

    return page


@pytest.fixture
def opened(browser):  # noqa: F811
    """Opens a file in a browser of its own; fails at an error or a request."""
    wrong, contexts = [], []

    def open_page(out, **settings):
        settings = {
            "locale": "en-GB",
            "viewport": {"width": 320, "height": 640},
        } | settings
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        address = (out / "page.html").as_uri()
        page.on("console", lambda x: wrong.append(x.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda x: x.url in (address,) or outside(x.url))
        page.goto(address)
        return page

    def outside(url):
        if not url.startswith(("data:", "blob:")):
            wrong.append(url)

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def begin(page, code="1"):
    page.get_by_label("Your number or name").fill(code)
    page.keyboard.press("Enter")


def fits(page):
    """Whether nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def fill(page, study, prefer):
    """Answers a screen by the pointer: `prefer` is right, and gets 5 points."""
    models = {n: m for item in study.items for n, m in item.candidates.items()}
    for radio in page.get_by_role("radio").all():
        name, value = (radio.get_attribute(each) for each in ("name", "value"))
        if value in models:  # A choice.
            ours = {models[x] for x in values(page, name) if x in models}
            wanted = prefer if prefer in ours else max(ours)
            wanted = models[value] == wanted
        else:
            wanted = value == ("5" if models.get(name.split()[0]) == prefer else "1")
        if wanted:
            radio.check()


def values(page, name):
    return [x.get_attribute("value") for x in page.locator(f"[name='{name}']").all()]


def saved(page, tmp_path, button):
    with page.expect_download() as found:
        page.get_by_role("button", name=button).click()
    path = tmp_path / found.value.suggested_filename
    found.value.save_as(path)
    return path


@pytest.mark.parametrize("form", ["scores", "votes", "categories"])
def test_a_rater_judges_all_and_is_read_back(form, page_of, opened, tmp_path):
    study, out = page_of(form)
    page = opened(out)
    begin(page, " Li\u3000\u200d李")
    assert page.evaluate("state.rater") == "Li 李"
    for number in range(1, len(study.items) + 1):
        expect(
            page.get_by_text(f"Screen {number} of {len(study.items)}")
        ).to_be_visible()
        assert fits(page)
        fill(page, study, prefer=1)
        page.get_by_role("button", name="Next").click()
    path = saved(page, tmp_path, "Save the answers")
    assert path.name.startswith("answers-Li-李-")
    expect(page.get_by_role("status")).to_contain_text("was saved")
    collected = collect([path], study)
    (rater,) = collected.raters
    assert rater.code == "Li 李" and len(rater.answers) == len(study.items)
    assert rater.checks == [True]
    report = analyse(study, collected)
    for entry in report["comparisons"]:
        assert entry["difference"] == (-4 if entry["question"] in "clarity texture "
                                       "relevance" else -1)  # fmt: skip


def test_by_keys_alone(page_of, opened, tmp_path):
    study, out = page_of("votes")
    page = opened(out)
    keys = page.keyboard
    keys.press("Tab")  # From the heading.
    expect(page.get_by_label("Your number or name")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Write your number or name first.")
    keys.type("7")
    keys.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_be_focused()
    keys.press("Tab")
    expect(page.get_by_role("radio", name="Image A").first).to_be_focused()
    keys.press("Space")
    keys.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("One answer is missing.")
    # The question that is open has the focus.
    keys.press("ArrowRight")
    expect(page.get_by_role("radio", name="Neither")).to_be_checked()
    keys.press("Enter")
    expect(page.get_by_text("Screen 2 of 5")).to_be_visible()
    path = saved(page, tmp_path, "Save the answers so far")
    (answer,) = collect([path], study).raters[0].answers
    assert answer.choices == {"realism": answer.order[0], "match": "neither"}
    assert answer.seconds > 0


def test_what_was_answered_is_kept(page_of, opened):
    study, out = page_of("scores")
    page = opened(out)
    begin(page)
    shown = page.get_by_role("heading", level=2).inner_text()
    names = [x.get_attribute("name") for x in page.get_by_role("radio").all()]
    fill(page, study, prefer=0)
    page.get_by_role("button", name="Next").click()
    page.reload()
    code = page.get_by_label("Your number or name")
    expect(code).to_have_value("1")
    expect(code).to_be_disabled()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Screen 2 of 5")).to_be_visible()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("heading", level=2)).to_have_text(shown)
    assert names == [x.get_attribute("name") for x in page.get_by_role("radio").all()]
    expect(page.locator("input:checked")).to_have_count(2 * 3 + 1)


def test_two_raters_at_one_browser(page_of, opened, tmp_path):
    study, out = page_of("votes")
    page = opened(out)
    begin(page, "first")
    fill(page, study, prefer=0)
    page.get_by_role("button", name="Next").click()
    page.reload()
    path = saved(page, tmp_path, "Save these answers, then another rater")
    (rater,) = collect([path], study).raters
    assert rater.code == "first" and len(rater.answers) == 1
    begin(page, "second")
    expect(page.get_by_text("Screen 1 of 5")).to_be_visible()
    fill(page, study, prefer=0)
    page.get_by_role("button", name="Next").click()
    path = saved(page, tmp_path, "Save the answers so far")
    (other,) = collect([path], study).raters
    assert other.code == "second" and other.token != rater.token


def test_raters_have_orders_of_their_own_and_shares(page_of, opened):
    study, out = page_of("votes", per_rater=2)
    items = {item.id: item for item in study.items}
    seen = []
    for code in "123":
        page = opened(out)
        begin(page, code)
        expect(page.get_by_text("Screen 1 of 3")).to_be_visible()
        own = page.evaluate("mine.map((item) => [item.id, orderOf(item)])")
        assert [items[name].is_check for name, _ in own].count(True) == 1
        seen.append(own)
    prompts = [
        {items[n].prompt for n, _ in own if not items[n].is_check} for own in seen
    ]
    assert prompts[0] | prompts[1] == {0, 1, 2, 3} and prompts[0] == prompts[2]
    orders = page.evaluate(
        "[...Array(200).keys()].map((i) => (state.token = `${i}`, orderOf(mine[0])[0]))"
    )
    names = {name: orders.count(name) for name in orders}
    assert len(names) == 2 and all(70 < n < 130 for n in names.values())


def test_two_languages_light_and_dark(page_of, opened):
    _, out = page_of("categories")
    page = opened(out, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 22, 26)"
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) == "rgb(245, 246, 248)"
    begin(page)
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("group", name="哪一组更符合文字？")).to_be_visible()
    expect(page.get_by_role("heading", level=2)).to_contain_text("<i>")
    assert page.get_by_role("img").first.get_attribute("alt") == "图像 A"
    assert page.evaluate("document.documentElement.lang") == "zh" and fits(page)
    assert page.locator("[role=radio], input[type=radio]").count() == 6


def test_nothing_can_be_loaded_from_elsewhere(page_of, browser):  # noqa: F811
    _, out = page_of("votes")
    page = browser.new_page()
    page.goto((out / "page.html").as_uri())
    refused = "() => fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"
    assert page.evaluate(refused) == "refused"
    with page.expect_event("requestfailed") as failed:
        page.evaluate(
            "() => { const i = document.createElement('img');"
            "i.src = 'http://127.0.0.1:9/'; const s = document.createElement('script');"
            "s.textContent = 'window.bad = 1'; document.body.append(i, s); }"
        )
    assert failed.value.failure == "csp"
    assert page.evaluate("window.bad") is None
    page.close()


def test_the_page_knows_no_model(page_of):
    study, out = page_of("votes")
    text = Path(out / "page.html").read_text("utf-8")
    names = {n: m for item in study.items for n, m in item.candidates.items()}
    assert all(name in text for name in names) and NOISE in names.values()
    assert '"m0"' not in text and json.dumps(list(names.values()))[1:-1] not in text
