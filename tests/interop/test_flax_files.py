"""Flax's files: what Flax writes is read, anything else is refused and not executed."""

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax.serialization import msgpack_serialize

from cogjax.errors import UserError
from cogjax.interop.containers import kind_of_file, open_tensors

RNG = np.random.default_rng(0)
TREE = {
    "model": {
        "a": RNG.normal(size=(3, 4, 5)).astype(np.float32),
        "h": RNG.normal(size=3).astype(np.float16),
        "b": RNG.normal(size=(2, 300)).astype(ml_dtypes.bfloat16),
        "one": np.float32(3),
        "none": np.zeros((0, 4), np.float32),
    },
    "n" * 40: {f"x{i}": np.full(200, i, np.int32) for i in range(20)},
}


def write(path, tree):
    path.write_bytes(msgpack_serialize(tree))
    return path


def test_tensors_are_read_one_by_one(tmp_path):
    path = write(tmp_path / "x.bin", TREE)
    assert kind_of_file(path) == "flax"
    found = open_tensors(path)
    wanted = {f"model.{k}": x for k, x in TREE["model"].items()}
    wanted |= {f"{'n' * 40}.{k}": x for k, x in TREE["n" * 40].items()}
    assert found.keys() == wanted.keys()
    for name, x in wanted.items():
        wide = np.asarray(x, np.float32 if x.dtype.itemsize == 2 else None)
        assert found[name].shape == wide.shape and found[name].dtype == wide.dtype
        np.testing.assert_array_equal(found[name].read(), wide)
    whole = found["model.a"]
    np.testing.assert_array_equal(whole.at(2).read(), TREE["model"]["a"][2])
    np.testing.assert_array_equal(
        whole.transposed(2, 0, 1).read(), TREE["model"]["a"].transpose(2, 0, 1)
    )
    assert whole.transposed(2, 0, 1).shape == (5, 3, 4)


def array(shape, dtype, data):
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))


def deep(levels, name="m"):
    tree = {"x": array((1,), "float32", bytes(4))}
    for _ in range(levels):
        tree = {name: tree}
    return tree


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"x": 3}, "a map is expected"),
        ({"x": [1, 2]}, "a map is expected"),
        ({"x": msgpack.ExtType(5, bytes(30))}, "'x' is no array"),
        ({"x": array((4,), "float32", bytes(12))}, r"12 bytes for \(4,\) of float32"),
        ({"x": array((1 << 60,), "float32", bytes(12))}, "12 bytes for"),
        ({"x": array((2,), "object", bytes(16))}, "of type 'object'"),
        ({"x": array((1,) * 9, "float32", bytes(4))}, "no shape of 0 to 8 sides"),
        ({"x" * 2000: array((3,), "float32", bytes(12))}, "name has 2000 bytes"),
        ({"__msgpack_chunked_array__": True}, "more than 1 GiB is in parts"),
        ({"a": {"b.c": array((3,), "float32", bytes(12))}, "a.b": {}}, ""),
        (deep(40), "nested deeper than 32"),
        (deep(4, "m" * 300), "a name has 1203 characters"),
        ({str(i): {} for i in range(1 << 17)} | {"x": {}}, "more than 131,072 names"),
    ],
)
def test_what_is_no_tree_of_arrays(tmp_path, tree, words):
    (tmp_path / "x").write_bytes(msgpack.packb(tree))
    if not words:
        assert list(open_tensors(tmp_path / "x")) == ["a.b.c"]
        return
    with pytest.raises(UserError, match=words) as caught:
        open_tensors(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_names_that_come_twice(tmp_path):
    one = array((3,), "float32", bytes(12))
    tree = {"a": {"b.c": one}, "a.b": {"c": one}}
    (tmp_path / "x").write_bytes(msgpack.packb(tree))
    with pytest.raises(UserError, match=r"'a\.b\.c' is there twice"):
        open_tensors(tmp_path / "x")


@pytest.mark.parametrize("size", [30, 60, 200, -1])
def test_a_file_that_is_cut_off(tmp_path, size):
    path = write(tmp_path / "x", TREE)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match="fetch it again"):
        open_tensors(path)


def test_a_file_with_more_behind_it(tmp_path):
    path = write(tmp_path / "x", TREE)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match="something follows its end"):
        open_tensors(path)
