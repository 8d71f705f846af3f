"""The page of a training run in a browser: narrow, dark, and asking nobody."""

import json

import numpy as np
import pytest

from cogjax.evaluate.report.run_files import BOARD
from cogjax.evaluate.report.training import write_training_report
from cogjax.train.metrics import save_png
from tests.chromium import browser  # noqa: F401


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page with every kind of section."""
    run = tmp_path_factory.mktemp("run")
    config = {"task": {"name": "vq"}, "train": {"steps": 9, "batch_size": 4}}
    (run / "config.json").write_text(json.dumps(config))
    rows = [
        {"step": s, "time": 1e9, "loss": 1 / s, "eval/loss": 2 / s, "seconds/step": 9.0}
        for s in range(1, 9)
    ]
    rows.append({"step": 9, "time": 1e9, "spike": 3.0, "loss": 1.0})
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    long = {f"a.long.name.of.a.key.{i}": "value" * 20 for i in range(3)}
    sessions = [
        {"step": s, "time": 1e9, "config": c, "machine": {"jax": "1"}}
        for s, c in ((0, {}), (5, long))
    ]
    (run / "sessions.jsonl").write_text("\n".join(map(json.dumps, sessions)))
    wide = np.zeros((60, 1500, 3), np.uint8)
    save_png(run / "samples" / "0000009-reconstructions.png", wide, ["x" * 300])
    save_png(run / BOARD, wide, {"codes": 5})
    return write_training_report(run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_asks_nobody(browser, page_file, scheme):  # noqa: F811
    page = browser.new_page(viewport={"width": 320, "height": 700}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_file.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert not said
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.locator("svg").count() == 1
    shown = page.locator("img").evaluate_all("all => all.map(x => x.naturalWidth)")
    assert shown == [1500, 1500]
    # The heading and its ground differ, and by the scheme.
    ground = page.evaluate("getComputedStyle(document.body).color")
    assert ground == {"light": "rgb(0, 0, 0)", "dark": "rgb(255, 255, 255)"}[scheme]
    page.close()
