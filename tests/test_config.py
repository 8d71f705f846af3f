"""Config files, overrides, and sections that refuse what does not fit."""

import dataclasses
import textwrap
from typing import Literal

import pytest

from cogjax import config
from cogjax.errors import UserError

FILE = """
from ml_collections import ConfigDict
from neighbour import WIDTH

def get_config(arg="nano"):
    c = ConfigDict()
    c.train = ConfigDict({"steps": 100, "name": "first"})
    c.optim = ConfigDict({"lr": 1e-3, "betas": (0.9, 0.95)})
    c.optim.warmup = c.train.get_ref("steps") // 10
    c.model = ConfigDict({"width": {"nano": WIDTH, "big": 512}[arg]})
    return c
"""


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclasses.dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    steps: int = 10
    nesterov: bool = False
    name: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    widths: tuple[int, ...] = ()
    clip: float | None = 1.0
    kind: Literal["cosine", "constant"] = "cosine"
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    inner: Inner = Inner()


@dataclasses.dataclass(frozen=True)
class Needs:
    width: int

    def __post_init__(self):
        if self.width % 8:
            raise ValueError(f"width {self.width} is not a multiple of 8")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "neighbour.py").write_text("WIDTH = 32\n")
    path = tmp_path / "run.py"
    path.write_text(FILE)
    return str(path)


def test_load_passes_the_argument_and_returns_plain_values(file):
    assert config.load(file)["model"] == {"width": 32}
    big = config.load(f"{file}:big")
    assert type(big) is dict and type(big["optim"]) is dict
    assert big["model"] == {"width": 512}
    assert big["optim"]["betas"] == (0.9, 0.95)


def test_neighbours_of_one_name_are_those_of_each_folder(file, tmp_path):
    assert config.load(file)["model"] == {"width": 32}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "neighbour.py").write_text("WIDTH = 64\n")
    (tmp_path / "other" / "run.py").write_text(FILE)
    assert config.load(str(tmp_path / "other" / "run.py"))["model"] == {"width": 64}


def test_overrides_take_both_spellings_and_literals(file):
    words = ["--config.optim.lr=3e-4", "--config.optim.betas", "(0.8, 0.9)"]
    words += ["--config.train.name=12", "--config.optim.clip=none"]
    c = config.load(file, [*words, "--config.sample.on=TRUE"])
    assert c["optim"]["lr"] == 3e-4
    assert c["optim"]["betas"] == (0.8, 0.9)
    assert c["train"]["name"] == "12"  # text stays text
    assert c["optim"]["clip"] is None
    assert c["sample"] == {"on": True}  # a new key; its section will judge it


def test_override_moves_values_derived_from_it(file):
    c = config.load(file, ["--config.train.steps=5e2"])
    assert c["train"]["steps"] == 500 and type(c["train"]["steps"]) is int
    assert c["optim"]["warmup"] == 50


def test_a_negative_override_value_may_stand_apart(file):
    assert config.load(file, ["--config.optim.lr", "-1"])["optim"]["lr"] == -1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.optm.lr=1"], "unknown config key 'optm': did you mean 'optim'?"),
        (["--config.optim.lr"], "'--config.optim.lr' has no value"),
        (["--config.optim=3"], "'--config.optim' names no key"),
        (["--config.optim.=3"], "names no key"),
        (["--config.optim.lr.x=3"], "config key 'optim.lr' is a value"),
        (["--lr=3"], "unexpected argument '--lr=3': config values are set as"),
        (["lr"], "unexpected argument 'lr'"),
    ],
)
def test_bad_overrides(file, words, message):
    with pytest.raises(UserError) as caught:
        config.load(file, words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def get_config(:", "is not valid Python"),
        ("x = 1", "has no function get_config"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def get_config(): return 3", "returned 3, not sections"),
        ("def get_config(a): return {}", "needs an argument"),
        ("def get_config(): return {'lr': 1}", "unknown config key 'lr'"),
        ("def get_config(): return {'optim': 1}", "'optim' expects a section"),
    ],
)
def test_bad_files(tmp_path, source, message):
    path = tmp_path / "bad.py"
    path.write_text(textwrap.dedent(source))
    with pytest.raises(UserError) as caught:
        config.load(str(path))
    assert message in str(caught.value)


def test_missing_file_and_needless_argument(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        config.load(str(tmp_path / "none.py:nano"))
    path = tmp_path / "plain.py"
    path.write_text("def get_config(): return {}")
    with pytest.raises(UserError, match="takes no argument"):
        config.load(f"{path}:nano")


def test_section_converts_only_what_is_safe():
    mapping = {"lr": 1, "steps": 1e3, "betas": [0, 1], "widths": [8, 16]}
    mapping |= {"clip": None, "weights": {"text": 2}, "inner": {"depth": 3}}
    got = config.section(Optim, mapping, "optim")
    assert got == Optim(1.0, 1000, False, "adamw", (0.0, 1.0), (8, 16), None, "cosine",
                        {"text": 2.0}, Inner(3))  # fmt: skip
    assert type(got.lr) is float and type(got.steps) is int


def test_section_reads_text_as_the_fields_type():
    mapping = {"lr": "3e-4", "steps": "1e3", "nesterov": "true", "name": "64"}
    mapping |= {"betas": "(0.5, 1)", "widths": "8", "clip": "none"}
    got = config.section(Optim, mapping, "optim")
    assert (got.lr, got.steps, got.nesterov, got.name) == (3e-4, 1000, True, "64")
    assert (got.betas, got.widths, got.clip) == ((0.5, 1.0), (8,), None)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"lrr": 1}, "unknown config key 'optim.lrr': did you mean 'optim.lr'?"),
        ({"zzzzz": 1}, "unknown config key 'optim.zzzzz': known are lr, steps"),
        ({"lr": "abc"}, "config key 'optim.lr' expects a number, got 'abc'"),
        ({"lr": True}, "config key 'optim.lr' expects a number, got True"),
        ({"lr": float("nan")}, "'optim.lr' expects a number, got nan"),
        ({"steps": 1.5}, "'optim.steps' expects a whole number, got 1.5"),
        ({"nesterov": 1}, "'optim.nesterov' expects true or false, got 1"),
        ({"name": 3}, "'optim.name' expects text, got 3"),
        ({"betas": (1, 2, 3)}, "'optim.betas' expects 2 values, got (1, 2, 3)"),
        ({"betas": 3}, "'optim.betas' expects a list, got 3"),
        ({"widths": (1, "x")}, "'optim.widths[1]' expects a whole number, got 'x'"),
        ({"clip": "x"}, "'optim.clip' expects a number or none, got 'x'"),
        ({"kind": "cosin"}, "'optim.kind' expects one of 'cosine', 'constant'"),
        ({"weights": {"t": "x"}}, "'optim.weights.t' expects a number, got 'x'"),
        ({"inner": {"dept": 1}}, "'optim.inner.dept': did you mean 'optim.inner.d"),
        ({"inner": 3}, "config key 'optim.inner' expects a section, got 3"),
    ],
)
def test_section_names_the_bad_key(mapping, message):
    with pytest.raises(UserError) as caught:
        config.section(Optim, mapping, "optim")
    assert message in str(caught.value)


def test_section_reports_missing_and_inconsistent_values():
    with pytest.raises(UserError, match="config key 'model.width' is required"):
        config.section(Needs, {}, "model")
    with pytest.raises(UserError, match="section 'model': width 12 is not a mult"):
        config.section(Needs, {"width": 12}, "model")


def test_json_round_trip_gives_the_same_section(file, tmp_path):
    resolved = config.load(file, ["--config.optim.betas=(0.5,0.6)"])
    saved = config.save_json(resolved, tmp_path / "run" / "config.json")
    again = config.load(str(saved))
    kept = {"betas": again["optim"]["betas"]}
    assert config.section(Optim, kept, "optim").betas == (0.5, 0.6)
    assert again["train"] == resolved["train"]
    assert [p.name for p in saved.parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "<html>", "[" * 100_000])
def test_damaged_json(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not JSON|holds no sections"):
        config.load_json(path)


def test_unsavable_value_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="cannot be saved"):
        config.save_json({"optim": {"lr": float("inf")}}, tmp_path / "config.json")
    assert list(tmp_path.iterdir()) == []


def test_values_in_messages_are_short(tmp_path):
    path = tmp_path / "c.py"
    path.write_text("def get_config():\n    return {'optim': {'lr': 1.0}}\n")
    for words in (
        ["--config." + "x" * 100_000 + "=1"],
        ["--config.x." + "y" * 100_000],
        ["--config.optim." + ".".join("x" * 50_000) + "=" + "1" * 100_000],
        ["x" * 100_000],
        ["--config.optim.lr." + "x" * 100_000 + "=1"],
    ):
        with pytest.raises(UserError) as caught:
            config.load(str(path), words)
        assert len(str(caught.value)) < 500
    with pytest.raises(UserError) as caught:
        config.section(Inner, {"depth": "x" * 100_000}, "optim")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["c.json", "c.py"])
def test_a_key_with_a_dot_is_refused(tmp_path, name):
    start = "" if name == "c.json" else "def get_config(): return "
    (tmp_path / name).write_text(start + '{"optim": {"a.b": 1}}')
    with pytest.raises(UserError, match="'a.b' has a dot"):
        config.load(str(tmp_path / name))


def test_a_key_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "c.py").write_text("def get_config(): return {'optim': {1: 2}}")
    with pytest.raises(UserError, match="config key 1 is no text"):
        config.load(str(tmp_path / "c.py"))


def test_ranges_name_the_field():
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        depth: int = 1
        widths: tuple[int, ...] = (1, 2)

        def __post_init__(self):
            config.check_ranges(self, depth=(1, 9), widths=(1, 9))

    with pytest.raises(ValueError, match="depth is 10, expected 1 to 9"):
        Sizes(10)
    with pytest.raises(ValueError, match=r"widths is \(3, 0\), expected 1 to 9"):
        Sizes(widths=(3, 0))
    assert Sizes(9, (9,))
