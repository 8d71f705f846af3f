"""Files that strangers send: each is read whole or left out with its reason."""

import copy
import json

import pytest

from cogjax.errors import UserError
from cogjax.evaluate.human import answers as module
from cogjax.evaluate.human.answers import Answer, collect
from cogjax.evaluate.human.study import NOISE, Item
from tests.evaluate.human.simulated import Crowd, answer_files


@pytest.fixture(scope="module")
def study(study_of):
    return study_of("scores", 2, 4, 1)


@pytest.fixture
def good(study):
    (data,) = answer_files(study, Crowd((0.5, 0)), 1, 0).values()
    return json.loads(data)


@pytest.fixture
def send(tmp_path):
    def written(name, value):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return written


def first(fields):
    return next(iter(fields["answers"].values()))


def altered(change):
    def made(fields):
        fields = copy.deepcopy(fields)
        change(fields)
        return fields

    return made


def put(name, value):
    return altered(lambda fields: first(fields).__setitem__(name, value))


def top(name, value):
    return altered(lambda fields: fields.__setitem__(name, value))


def points(value):
    def change(fields):
        own = first(fields)["scores"]
        own[next(iter(own))]["clarity"] = value

    return altered(change)


BROKEN = {
    "no JSON": (lambda fields: b"\xff\x00 nothing", "no file of answers"),
    "deep": (lambda fields: b"[" * 200_000, "no file of answers"),
    "list": (lambda fields: [1], "no file of answers"),
    "null": (lambda fields: None, "no file of answers"),
    "other": (lambda fields: {"cogjax": "data set"}, "no file of answers"),
    "page": (top("page", "0" * 16), "answers to another page, 0000000000000000"),
    "no page": (top("page", 7), "no file of answers"),
    "digits": (lambda fields: b'{"cogjax": ' + b"9" * 9999 + b"}", "no file of"),
    "rater": (top("rater", "x" * 65), "is no name"),
    "blank": (top("rater", "\u3000\u200d"), "is no name"),
    "bell": (top("token", "a\x07\nb"), "characters that cannot be printed"),
    "token": (top("token", None), "damaged or altered: None is no name"),
    "answers": (top("answers", [1, 2]), "damaged or altered"),
    "none": (top("answers", {}), "no answers yet"),
    "item": (top("answers", {"deadbeef": {}}), "unknown or missing 'deadbeef'"),
    "order": (put("order", ["a", "b"]), "other candidates of "),
    "seconds": (put("seconds", float("nan")), "nan seconds"),
    "yes": (put("seconds", True), "True seconds"),
    "scores": (put("scores", {}), "unknown or missing"),
    "six": (points(6), "6 points, of 1 to 5"),
    "half": (points(2.5), "2.5 points"),
    "truth": (points(True), "True points"),
    "best": (put("choices", {"best": "neither"}), "'neither' is no answer to best"),
    "choices": (put("choices", 3), "damaged or altered"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_is_left_out(name, study, good, send, tmp_path):
    change, reason = BROKEN[name]
    send("good.json", good)
    send("bad.json", change(dict(good, token="b", rater="other")))
    found = collect([tmp_path], study)
    assert [rater.name for rater in found.raters] == ["good.json"]
    ((file, said),) = found.left_out
    assert file == "bad.json" and reason in said and "\n" not in said
    assert len(said) < 400
    with pytest.raises(UserError, match="none of 1 files can be used; bad.json: "):
        collect([tmp_path / "bad.json"], study)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("张\u3000三", "张 三"),
        ("Jean\u00a0 Luc", "Jean Luc"),
        ("👩\u200d🔬", "👩 🔬"),
        ("\uff17", "7"),
        ("a\x07\n\ud83d", "a"),
    ],
)
def test_names_as_people_type_them(typed, code, study, good, send):
    path = send("good.json", dict(good, rater=typed))
    assert [rater.code for rater in collect([path], study).raters] == [code]


def test_the_end_of_a_name_is_in_any_case(study, good, send, tmp_path):
    send("a.json", good)
    send("B.JSON", dict(good, token="b", rater="b"))
    send("c.txt", b"no answers")
    found = collect([tmp_path], study)
    assert len(found.raters) == 2 and not found.left_out


def test_of_one_rater_the_longest_file_counts(study, good, send, tmp_path):
    short = altered(lambda f: f["answers"].popitem())(good)
    paths = [send("1-first.json", short), send("2-whole.json", good)]
    paths.append(send("3-copy.json", good))
    # In another browser, by the same number.
    paths.append(send("4-again.json", dict(short, token="another")))
    paths.append(send("5-else.json", dict(good, token="else", rater="someone")))
    found = collect(paths, study)
    assert {rater.name for rater in found.raters} == {"2-whole.json", "5-else.json"}
    assert sorted(name for name, _ in found.left_out) == (
        ["1-first.json", "3-copy.json", "4-again.json"]
    )
    assert all("the same rater as 2-whole.json" in said for _, said in found.left_out)


def test_too_large_missing_or_none(study, good, send, tmp_path, monkeypatch):
    path = send("good.json", good)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="good.json: larger than 100 bytes"):
        collect([path], study)
    with pytest.raises(UserError, match="no answers at .*gone.json: give the files"):
        collect([path, tmp_path / "gone.json"], study)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="0 files of answers"):
        collect([tmp_path / "empty"], study)


@pytest.mark.parametrize(
    ("choices", "right"),
    [
        ({"realism": "real", "match": "real"}, True),
        ({"realism": "real", "match": "neither"}, True),
        ({"realism": "real", "match": "noise"}, False),
        ({"realism": "noise", "match": "real"}, False),
        ({"realism": "same", "match": "same"}, False),
    ],
)
def test_a_check_of_choices(choices, right):
    item = Item("i", 0, {"noise": NOISE, "real": 1})
    assert item.is_check
    assert Answer(item, ("real", "noise"), 1.0, {}, choices).passes() is right


@pytest.mark.parametrize(
    ("noise", "best", "right"),
    [(1, "a", True), (2, "b", True), (3, "a", False), (1, "noise", False)],
)
def test_a_check_of_points(noise, best, right):
    item = Item("i", 0, {"noise": NOISE, "a": 1, "b": 0})
    scores = {"noise": noise, "a": 5, "b": 2}
    scores = {name: dict.fromkeys("xyz", value) for name, value in scores.items()}
    answer = Answer(item, tuple(scores), 1.0, scores, {"best": best})
    assert answer.passes() is right
