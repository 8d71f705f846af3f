"""Rules followed backwards."""

import numpy as np
import pytest

from cogjax.interop.rules import Rule, of_one, stacked


def back(rule, rng):
    tensors = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in rule.sources.items()
    }
    parts = [part.reshape(-1) for part in rule.values(tensors.__getitem__)]
    found = {}
    for i in range(len(parts)):
        found |= rule.tensors(i, np.concatenate(parts))
    assert found.keys() == tensors.keys()
    for name, x in tensors.items():
        np.testing.assert_array_equal(found[name], x)


def test_what_is_moved_comes_back():
    """Views of a tensor are filled, copies are looked up; infinities and NaNs too."""
    rng = np.random.default_rng(0)
    shapes = {"x/kernel": np.zeros((3, 4, 2, 5))}
    back(stacked(shapes, "x/kernel", "l.{}.w", 3, 2), rng)
    back(of_one("x", "w", (2, 3, 4), lambda x: x.transpose(2, 0, 1)), rng)
    back(of_one("x", "w", (), lambda x: x), rng)
    names = ("q", "k", "v")
    sources = dict.fromkeys(names, (4, 3))
    back(
        Rule("x", sources, (names,), lambda *x: np.concatenate([y.T for y in x], -1)),
        rng,
    )
    # Tables one behind the other are parts of different sizes.
    sources = {"a": (2, 3), "b": (5, 3)}
    back(Rule("x", sources, (("a",), ("b",)), lambda x: x), rng)
    rule = of_one("x", "w", (2, 2), lambda x: x.T)
    values = np.float32([np.nan, np.inf, -0.0, 1])
    assert rule.make(rule.tensors(0, values)["w"]).tobytes() == values.tobytes()


@pytest.mark.parametrize("make", [lambda x: 2 * x, lambda x: x + 1, lambda x: x[:1]])
def test_what_is_computed_does_not(make):
    values = make(np.arange(1, 7, dtype=np.float32).reshape(2, 3))
    with pytest.raises(ValueError, match="is computed"):
        of_one("x", "w", (2, 3), make).tensors(0, values)
