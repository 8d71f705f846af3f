"""Files that were made to harm, or are none of the kinds they seem to be."""

import struct

import pytest

from cogjax.errors import UserError
from cogjax.interop.safetensors import save_tree
from cogjax.interop.source import open_source
from tests.importing import files
from tests.interop.test_torch_files import (
    VALUES,
    entries,
    tensor,
    text,
    write_legacy,
    write_zip,
)


def weights(folder):
    return files.state_dict(folder / "w.pt", {"a": VALUES})


# A few such lines, each of ten aliases of the one before, would fill any memory.
ALIASES = "a: &a [x]\n" + "b: &b [*a, *a]\n"
MERGES = "a: &a {x: 1}\n" + "b: {<<: [*a, *a]}\n"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ALIASES, r"w.yaml is damaged: it has the alias \*a"),
        (MERGES, r"w.yaml is damaged: it has the alias \*a"),
        ("a: !!bool x", "w.yaml is damaged"),
        ("a: !!int ''", "w.yaml is damaged"),
        ("a: !!timestamp x", "w.yaml is damaged"),
        ("a: !!python/object/apply:os.abort []", "w.yaml is damaged"),
    ],
)
def test_config_files_that_harm(tmp_path, config, words):
    weights(tmp_path)
    (tmp_path / "w.yaml").write_text(config)
    with pytest.raises(UserError, match=words):
        open_source([tmp_path])


def test_a_config_file_of_yaml_is_small(tmp_path):
    """PyYAML needs 15 s for 1 MB; such a file is none that anything reads."""
    weights(tmp_path)
    (tmp_path / "w.yaml").write_text("a: [" + "b," * 2**16 + "b]")
    assert not open_source([tmp_path]).configs


OLD = tensor("0", 12, (3, 4), (4, 1), legacy=True)
HUGE = b"\x8b" + struct.pack("<i", 3000) + b"\x7f" * 3000  # A whole number.


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (b"}" + HUGE + OLD + b"s", "a key of more than 64 bits"),
        # A thousand tensors in such a dict would have a thousand such names.
        (b"}" + text("a" * 2000) + entries(w=OLD) + b"s", "a name of more than 1000"),
    ],
)
def test_names_that_harm(tmp_path, tree, words):
    path = write_legacy(tmp_path / "w.pt", tree, {"0": VALUES})
    with pytest.raises(UserError, match=words):
        open_source([path])


def test_weights_under_two_names_of_trainers(tmp_path):
    part = entries(a=tensor("0", 12, (3, 4), (4, 1)))
    tree = entries(state_dict=part, model=part)
    path = write_zip(tmp_path / "w.pt", tree, {"0": VALUES})
    with pytest.raises(UserError, match="has 'model.a' beside its weights"):
        open_source([path])


def _bad_name(data, at):
    """A name that is said to be UTF-8."""
    data[at + 8 : at + 10] = struct.pack("<H", 0x800)
    data[at + 46] = 0xFF


def _bad_offset(data, at):
    """A member of ZIP64 behind 2^63."""
    extra = struct.pack("<HHQ", 1, 8, 2**63 + 5)
    data[at + 30 : at + 32] = struct.pack("<H", len(extra))
    data[at + 42 : at + 46] = b"\xff" * 4
    end = at + 46 + len("net/data/0")
    data[end:end] = extra
    size = data.index(b"PK\x05\x06") + 12
    (old,) = struct.unpack("<I", data[size : size + 4])
    data[size : size + 4] = struct.pack("<I", old + len(extra))


@pytest.mark.parametrize("damage", [_bad_name, _bad_offset])
def test_zips_that_harm(tmp_path, damage):
    tree = entries(a=tensor("0", 12, (3, 4), (4, 1)))
    path = write_zip(tmp_path / "w.pt", tree, {"0": VALUES})
    data = bytearray(path.read_bytes())
    damage(data, data.rindex(b"PK\x01\x02"))
    path.write_bytes(data)
    with pytest.raises(UserError, match="w.pt refused: it is a damaged zip"):
        open_source([path])


def test_tensors_in_lists_are_not_left_out(tmp_path):
    """An optimizer's are beside the weights; others are weights that nobody knows."""
    part = tensor("0", 12, (3, 4), (4, 1))
    one = b"]" + part + b"a"
    tree = entries(state_dict=entries(a=part), optimizer_states=one)
    path = write_zip(tmp_path / "w.pt", tree, {"0": VALUES})
    source = open_source([path])
    assert (source.names, source.beside) == ({"a"}, ["optimizer_states.0"])
    tree = entries(state_dict=entries(a=part, b=one))
    path = write_zip(tmp_path / "w.pt", tree, {"0": VALUES})
    assert open_source([path]).names == {"a", "b.0"}


def test_long_lists_of_numbers_are_no_tensors(tmp_path):
    part = tensor("0", 12, (3, 4), (4, 1))
    numbers = b"](" + b"K\x01" * 300_000 + b"e"
    path = write_zip(tmp_path / "w.pt", entries(a=part, b=numbers), {"0": VALUES})
    assert open_source([path]).names == {"a"}


POINTER = b"version https://git-lfs.github.com/spec/v1\n"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("encoder.pkl", b"<!doctype html>", "looks like an HTML page"),
        ("w-2.safetensors", POINTER, "w-2.safetensors is not the.*`git lfs pull`"),
        ("spiece.model", POINTER, "`git lfs pull`"),
        ("w-2.bin", b"", "w-2.bin is not the file that was to be fetched: it is empty"),
    ],
)
def test_downloads_that_failed(tmp_path, name, data, words):
    weights(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        open_source([tmp_path])


def test_copies_may_be_pointers(tmp_path):
    """In a folder with safetensors, and what nothing here reads in any folder."""
    save_tree(tmp_path / "w.safetensors", {"a": VALUES}, None)
    for name in ("w.bin", "w.h5", "README.md"):
        (tmp_path / name).write_bytes(POINTER)
    assert open_source([tmp_path]).names == {"a"}


def test_a_header_may_begin_like_a_page(tmp_path):
    """Its size, 60, is that of a page's first letter."""
    header = b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,17]}}'.ljust(60)
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(UserError, match="damaged or cut short"):
        open_source([path])


def test_parts_that_name_their_whole(tmp_path):
    """As the settings of OmegaConf do that Lightning keeps."""
    part = tensor("0", 12, (3, 4), (4, 1))
    settings = b"}q\x00" + text("content") + entries(_parent=b"h\x00") + b"s"
    tree = entries(state_dict=entries(a=part), hyper_parameters=settings)
    path = write_zip(tmp_path / "w.pt", tree, {"0": VALUES})
    assert open_source([path]).names == {"a"}
