import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.interop.tree import check_leaves, flatten, unflatten

TREE = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "c": np.arange(3)}


def test_two_tensors_of_one_flat_name_are_refused():
    with pytest.raises(ValueError, match="'a/b' is there twice"):
        flatten({"a/b": TREE["c"], "a": {"b": TREE["c"]}})


def test_flatten_is_undone():
    flat = flatten(TREE)
    assert list(flat) == ["a/b", "c"]
    assert list(unflatten(flat)) == ["a", "c"]


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_roundtrip(tmp_path, dtype):
    save_tree(tmp_path / "w.safetensors", TREE, dtype)
    back = load_tree(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(back["a"]["b"], TREE["a"]["b"])
    assert back["a"]["b"].dtype == np.float32
    assert back["c"].dtype == TREE["c"].dtype


def test_bfloat16_files_are_widened(tmp_path):
    save_tree(tmp_path / "w.safetensors", {"x": np.ones(2, ml_dtypes.bfloat16)}, None)
    assert load_tree(tmp_path / "w.safetensors")["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read weights"),
        (b"", "it is empty"),
        (b"<!doctype html><title>404</title>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"\x80\x04\x95cposix\nsystem\n", "damaged or cut short"),
        (b"\xff" * 100, "damaged or cut short"),
    ],
)
def test_what_is_not_weights_is_said(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_tree(path)


def test_cut_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tree(path, TREE, None)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged or cut short"):
        load_tree(path)


def with_header(path, *entries):
    """A file of one float a tensor, whose header has the entries as they are."""
    header = "{" + ",".join(entries) + "}"
    data = header.encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(4 * len(entries)))
    return path


def entry(name, place=0):
    ends = f"[{4 * place},{4 * place + 4}]"
    return f'"{name}":{{"dtype":"F32","shape":[1],"data_offsets":{ends}}}'


def test_a_name_that_is_there_twice(tmp_path):
    """The library keeps the last, and one would be lost."""
    path = tmp_path / "w.safetensors"
    assert load_tree(with_header(path, entry("a"), entry("b", 1))).keys() == {"a", "b"}
    with pytest.raises(UserError, match="'a' is there twice"):
        load_tree(with_header(path, entry("a"), entry("a", 0)))


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a/b"),
        ("a/b", "a"),
        ("a//b",),
        ("",),
        ("/".join("x" * 2000),),
        ("x" * 900,),
    ],
    ids=lambda names: str(names)[:20],
)
def test_odd_names_are_refused(tmp_path, names):
    path = tmp_path / "w.safetensors"
    entries = [entry(name, place) for place, name in enumerate(names)]
    with pytest.raises(UserError, match="refused: .*name") as caught:
        load_tree(with_header(path, *entries))
    assert len(str(caught.value)) < 300


def test_a_header_of_any_length(tmp_path):
    path = tmp_path / "w.safetensors"
    for size in (1 << 60, 1 << 25):
        path.write_bytes(size.to_bytes(8, "little") + b"{}")
        with pytest.raises(UserError, match="not a safetensors file"):
            load_tree(path)


def test_leaves_are_compared_strictly():
    found = {"a": np.ones((2, 3)), "extra": np.ones(1)}
    wanted = {"a": np.ones((3, 2)), "missing": np.ones(1)}
    with pytest.raises(UserError) as error:
        check_leaves(found, wanted, "weights w")
    text = str(error.value)
    assert "missing is missing" in text and "extra is unknown" in text
    assert "a is (2, 3), expected (3, 2)" in text
    check_leaves(found, found, "weights w")
    with pytest.raises(UserError) as error:
        check_leaves({"a" * 5000: np.ones(1)}, wanted, "weights w")
    assert len(str(error.value)) < 300


def test_no_weight_is_twice_in_memory(tmp_path):
    leaves = {f"w{i}": np.ones((2**8, 2**10), np.float32) for i in range(8)}
    save_tree(tmp_path / "w.safetensors", leaves, None)
    tracemalloc.start()
    found = load_tree(tmp_path / "w.safetensors")
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 8 and 2**23 <= held
    assert most < held + 2**21


def test_weights_may_be_changed_in_place(tmp_path):
    save_tree(tmp_path / "w.safetensors", {"a": np.zeros((2, 3), np.float32)}, None)
    found = load_tree(tmp_path / "w.safetensors")["a"]
    found[0, 0] = 1
    assert found.sum() == 1
