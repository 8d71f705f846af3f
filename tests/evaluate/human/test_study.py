"""Items of the three forms, checks among them, and prompts by category."""

import itertools
import json
from collections import Counter

import pytest

from cogjax.errors import UserError
from cogjax.evaluate.human.prompts import chosen, own_prompts, parse_prompts
from cogjax.evaluate.human.study import FORMS, NOISE, _opaque, make_study, read_key


@pytest.mark.parametrize("form", FORMS)
def test_every_prompt_is_asked_about_once_a_group(study_of, form):
    study = study_of(form, models=3, prompts=8, checks=3)
    shown = [item for item in study.items if not item.is_check]
    groups = Counter(
        (item.prompt, tuple(sorted(item.candidates.values()))) for item in shown
    )
    pairs = [(0, 1), (0, 2), (1, 2)] if FORMS[form].paired else [(0, 1, 2)]
    assert groups == Counter(itertools.product(range(8), pairs))
    checks = [item for item in study.items if item.is_check]
    assert len(checks) == 3 == len({item.prompt for item in checks})
    size = 2 if FORMS[form].paired else 3
    for item in checks:
        models = list(item.candidates.values())
        assert models.count(NOISE) == 1 and len(set(models)) == size


def test_names_and_order_do_not_tell_the_model(study_of):
    study = study_of("votes", models=2, prompts=200, checks=50)
    names = [name for item in study.items for name in item.candidates]
    assert len(set(names)) == len(names)
    first = [next(iter(item.candidates.values())) for item in study.items]
    assert 70 < first.count(0) < 130 and 10 < first.count(NOISE) < 40
    # Checks stand among the others.
    places = [i for i, item in enumerate(study.items) if item.is_check]
    assert 90 < sum(places) / len(places) < 160
    assert study == study_of("votes", models=2, prompts=200, checks=50)
    other = study_of("votes", models=2, prompts=200, checks=49)
    assert other.id != study.id or other.items != study.items


def test_a_key_is_read_back(study_of, tmp_path):
    study = study_of("scores")
    path = tmp_path / "key.json"
    path.write_text(study.key(), "utf-8")
    assert read_key(path) == study
    fields = json.loads(study.key())
    wrong = [{}, [], fields | {"form": "x"}, fields | {"items": 3}]
    wrong += [fields | {"more": 1}, fields | {"models": ["a"]}]
    wrong += [fields | {"id": 3}, fields | {"per_rater": "2"}, fields | {"form": []}]
    wrong += [fields | {"models": [1, 2, 3]}, fields | {"prompts": [{"text": 3}]}]
    first, *rest = fields["items"]
    own = first["candidates"]
    changes = [("candidates", list(own)), ("candidates", dict.fromkeys(own, 0))]
    changes += [("candidates", {name: 3 + i for i, name in enumerate(own)})]
    changes += [("candidates", dict(zip(own, "012", strict=True)))]
    changes += [("candidates", {"a": 0, "b": 1}), ("prompt", 30), ("prompt", -1)]
    changes += [("prompt", True), ("id", 3), ("id", rest[0]["id"])]
    wrong += [fields | {"items": [first | {k: v}, *rest]} for k, v in changes]
    for each in wrong:
        path.write_text(json.dumps(each))
        with pytest.raises(UserError, match="is no key of a human evaluation"):
            read_key(path)
    with pytest.raises(UserError, match="cannot read the key .*No such file"):
        read_key(tmp_path / "none")


def test_our_prompts():
    english, chinese = own_prompts("en"), own_prompts("zh")
    assert Counter(p.category for p in english) == Counter(
        {name: 10 for name in dict.fromkeys(p.category for p in english)}
    )
    assert len(english) == 130 and len(chinese) == 120
    assert "misspelling" not in {p.category for p in chinese}
    for prompts in (english, chinese):
        assert len({p.text for p in prompts}) == len(prompts)
    assert all(p.text.isascii() for p in english)
    assert not any(p.text.isascii() for p in chinese)


def test_prompts_of_a_file():
    found = parse_prompts(["counting\ttwo pears", "a cat"], "p.txt")
    assert [(p.category, p.text) for p in found] == (
        [("counting", "two pears"), ("", "a cat")]
    )
    with pytest.raises(UserError, match="p.txt has 'a cat' twice"):
        parse_prompts(["a cat", "x\ta cat"], "p.txt")
    with pytest.raises(UserError, match="p.txt: line 2 has no prompt"):
        parse_prompts(["a cat", "\x01"], "p.txt")


def test_some_prompts_are_spread_over_categories():
    prompts = own_prompts("en")
    some = chosen(prompts, 26, 0)
    assert set(Counter(p.category for p in some).values()) == {2}
    assert [p for p in prompts if p in some] == some
    assert chosen(prompts, 26, 1) != some
    assert chosen(prompts, None, 0) == prompts
    with pytest.raises(UserError, match="--n 131: there are 130 prompts"):
        chosen(prompts, 131, 0)


def test_a_study_depends_on_its_settings():
    prompts = own_prompts("en")[:5]
    first, second = (
        make_study("votes", ["a", "b"], prompts, {"seed": seed}, 1) for seed in (0, 1)
    )
    assert first.id != second.id
    assert not {i.id for i in first.items} & {i.id for i in second.items}


def test_names_do_not_follow_from_the_page(study_of):
    """Who has the page's name and this code cannot work out who is who."""
    study = study_of("votes", models=2, prompts=5, checks=2)
    for item in study.items:
        assert item.id != _opaque(study.id, item.prompt, 0, 1)
        for name, model in item.candidates.items():
            assert name != _opaque(study.id, item.prompt, 0, 1, model)
