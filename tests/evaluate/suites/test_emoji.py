from functools import partial

import numpy as np
import pytest

from cogjax.evaluate.judges import emoji
from cogjax.evaluate.suites.emoji import EmojiSuite
from cogjax.evaluate.suites.run import run

LANGUAGES = ("all", "en", "zh")


class Model:
    """Has what a suite looks at before it starts."""

    image_size, num_codes, batch_size = 8, 4, 2
    encode = decode = None


def shares(share):
    return {x: {"share": share, "interval": [0.1, 0.9], "n": 4} for x in LANGUAGES}


@pytest.fixture
def evaluated(monkeypatch):
    """Replaces the figures by some of the same form; returns what it was asked."""
    asked = []

    def evaluate(model, data, *, progress, **settings):
        asked.append(settings)
        judged = {"concept_top1": shares(0.25), "style": shares(0.75)}
        drawn = {"prompts": 4, "best_of_1": judged, "real_through_tokenizer": judged}
        captions = {"right_of_20": shares(0.5)}
        metrics = {
            **{f"generation_{name}": drawn for name in ("train", "pairs")},
            **{f"captions_{name}": captions for name in emoji.SPLITS},
            "tokenizer": {"psnr_held_out_concepts_db": 23.5},
            "style_judge_on_real": 0.9,
        }
        return metrics, [np.zeros((5, 4, 4, 3), np.uint8)] * 3

    monkeypatch.setattr(emoji, "evaluate_emoji", evaluate)
    monkeypatch.setattr(EmojiSuite, "check", lambda self, model: None)
    return asked


def test_figures_become_a_report(evaluated, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_text("{}")
    suite = EmojiSuite(str(tmp_path / "set"), n=4, sheet=str(tmp_path / "s.png"))
    evaluate = partial(run, suite, Model(), identity={}, about={"model": "m"})
    report = evaluate(out=tmp_path / "out")
    assert report["style_judge_on_real"] == 0.9
    assert report["n"] == 4
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("0.250 [0.100, 0.900]") == 12
    assert page.count("0.500 [0.100, 0.900]") == 9
    assert "data:image/png;base64," in page
    assert "23.5" in page
    assert "://" not in page
    (asked,) = evaluated
    assert asked == {"n": 4, "best_of": 8, "seed": 0, "gallery": None}


def test_without_a_folder_nothing_is_written(evaluated, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    suite = EmojiSuite(str(tmp_path))
    run(suite, Model(), out=None, identity={}, about={})
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
