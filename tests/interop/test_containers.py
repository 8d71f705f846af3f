"""What a file is, by its first bytes and whatever it is called."""

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

from cogjax.errors import UserError
from cogjax.interop.containers import open_tensors
from cogjax.interop.safetensors import save_tree
from tests.interop.test_torch_files import entries, tensor, write_legacy, write_zip

VALUES = np.arange(12, dtype=np.float32)
TREE = entries(w=tensor("0", 12, (3, 4), (4, 1)))
OLD = entries(w=tensor("0", 12, (3, 4), (4, 1), legacy=True))


def write(kind, path):
    array = VALUES.reshape(3, 4)
    if kind == "zip":
        write_zip(path, TREE, {"0": VALUES})
    elif kind == "legacy":
        write_legacy(path, OLD, {"0": VALUES})
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"w": array}, 4))
    else:
        path.write_bytes(safetensors.numpy.save({"w": array}))


@pytest.mark.parametrize("suffix", ["ckpt", "bin", "safetensors"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
def test_the_name_of_a_file_says_nothing(tmp_path, kind, suffix):
    path = tmp_path / f"x.{suffix}"
    write(kind, path)
    found = open_tensors(path)
    assert {k: (x.shape, x.dtype) for k, x in found.items()} == {
        "w": ((3, 4), np.float32)
    }
    np.testing.assert_array_equal(found["w"].read(), VALUES.reshape(3, 4))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"<!doctype html><html>", "HTML page: the download failed"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (bytes(range(100)), "of no known kind.*damaged or cut short"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path, data, words):
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(UserError, match=words):
        open_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_is_given_as_float32(tmp_path, dtype):
    half = {"F16": "float16", "BF16": "bfloat16"}[dtype]
    path = tmp_path / "x.safetensors"
    save_tree(path, {"w": np.array([1.5, -2.0], np.float32)}, half)
    assert dtype.encode() in path.read_bytes()
    found = open_tensors(path)["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.read(), np.float32([1.5, -2.0]))


def test_a_cut_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    write("safetensors", path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged or cut short"):
        open_tensors(path)


def test_types_that_are_not_read_are_named(tmp_path):
    """Such as those of small copies of large T5s."""
    entry = {"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    header = json.dumps(entry).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="'w' is of type 'F8_E4M3', known are BF16"):
        open_tensors(tmp_path / "x.safetensors")
