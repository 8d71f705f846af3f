"""Files of PyTorch written by hand, so that no torch is needed."""

import collections
import importlib
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.interop.pickles import read_array_pickle
from cogjax.interop.torch_files import open_torch


def read_torch(path):
    """All tensors of a file."""
    return {name: tensor.read() for name, tensor in open_torch(path).items()}


START, END, MARK = b"\x80\x02", b".", b"("


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    return b"X" + struct.pack("<i", len(value)) + value.encode()


def number(value):
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def several(*items):
    return MARK + b"".join(items) + b"t"


def entries(**items):
    return b"}(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def tensor(key, numel, shape, strides, offset=0, kind="FloatStorage", legacy=False):
    view = [b"N"] if legacy else []
    identity = several(
        text("storage"), name("torch", kind), text(key), text("cpu"), number(numel)
    )
    if legacy:
        identity = identity[:-1] + view[0] + b"t"
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + several(
            identity + b"Q",
            number(offset),
            several(*map(number, shape)),
            several(*map(number, strides)),
            b"\x89",
            name("collections", "OrderedDict") + b")R",
        )
        + b"R"
    )


def write_zip(path, tree, storages=None, **members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", START + tree + END)
        for key, values in (storages or {}).items():
            archive.writestr(f"net/data/{key}", values.tobytes())
        for member, data in members.items():
            archive.writestr(f"net/{member}", data)
    return path


def write_legacy(path, tree, storages, keys=None):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    data = b"".join(pickle.dumps(part, 2) for part in parts) + START + tree + END
    data += pickle.dumps(keys or list(storages), 2)
    for values in storages.values():
        data += struct.pack("<q", values.size) + values.tobytes()
    path.write_bytes(data)
    return path


# Thirty dicts, each with the one before under two names: a billion paths.
SHARED = entries(x=b"N")
for _i in range(30):
    _put, _get = b"q" + bytes([_i]), b"h" + bytes([_i])
    SHARED = b"}(" + text("a") + SHARED + _put + text("b") + _get + b"u"
VALUES = np.arange(12, dtype=np.float32)
TREE = {
    "w": (VALUES.reshape(4, 3)[1:].T, (3, 3), (1, 3), 3),
    "s": (VALUES[5], (), (), 5),
}


@pytest.mark.parametrize("legacy", [False, True])
def test_views_of_storages(tmp_path, legacy):
    tree = entries(
        **{k: tensor("0", 12, *rest, legacy=legacy) for k, (_, *rest) in TREE.items()}
    )
    write = write_legacy if legacy else write_zip
    read = read_torch(write(tmp_path / "x.pth", tree, {"0": VALUES}))
    assert list(read) == list(TREE)
    for key, (wanted, *_) in TREE.items():
        np.testing.assert_array_equal(read[key], wanted)
        assert read[key].flags.c_contiguous and read[key].shape == wanted.shape


@pytest.mark.parametrize(
    ("kind", "stored", "dtype"),
    [
        ("HalfStorage", np.float16, np.float32),
        ("DoubleStorage", np.float64, np.float64),
        ("LongStorage", np.int64, np.int64),
        ("BoolStorage", np.bool_, np.bool_),
    ],
)
def test_types(tmp_path, kind, stored, dtype):
    values = np.array([1, 0, 1], stored)
    tree = entries(x=tensor("0", 3, (3,), (1,), kind=kind))
    read = read_torch(write_zip(tmp_path / "x.pt", tree, {"0": values}))["x"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values)


def test_half_of_a_float_is_bfloat16(tmp_path):
    halves = np.array([1.5, -2], np.float32).view(np.uint16)[1::2].copy()
    tree = entries(x=tensor("0", 2, (2,), (1,), kind="BFloat16Storage"))
    read = read_torch(write_zip(tmp_path / "x.pt", tree, {"0": halves}))["x"]
    np.testing.assert_array_equal(read, np.float32([1.5, -2]))


def test_notes_and_modules_of_torchscript_are_read_through(tmp_path):
    inner = name("__torch__.nets", "Net") + b")\x81"
    inner += entries(weight=tensor("0", 12, (12,), (1,)), training=b"\x89") + b"b"
    ordered = name("collections", "OrderedDict") + b")R(" + text("net") + inner
    ordered += text("epoch") + number(3) + b"u" + entries(_metadata=b"N") + b"b"
    read = read_torch(write_zip(tmp_path / "x.pt", ordered, {"0": VALUES}))
    np.testing.assert_array_equal(read["net.weight"], VALUES)
    assert list(read) == ["net.weight"]


def test_what_stands_beside_the_tensors_of_a_checkpoint(tmp_path):
    """Lightning has classes as keys, DeepSpeed a set; optimizers have numbers."""
    weights = entries(w=tensor("0", 12, (12,), (1,)))
    one = number(1)
    hook = name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    callbacks = b"}" + hook + entries(best=b"N") + b"s"
    path = name("pathlib", "PosixPath") + several(text("x")) + b"R"
    tags = name("__builtin__", "set") + several(b"](" + text("a") + b"e") + b"R"
    step = b"}" + one + tensor("1", 1, (1,), (1,)) + b"s"
    tree = entries(
        callbacks=callbacks, path=path, tags=tags, state_dict=weights, step=step
    )
    storages = {"0": VALUES, "1": VALUES[:1]}
    read = read_torch(write_zip(tmp_path / "x.ckpt", tree, storages))
    assert list(read) == ["state_dict.w", "step.1"]
    np.testing.assert_array_equal(read["state_dict.w"], VALUES)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_module_has_the_names_of_its_state_dict(tmp_path, legacy):
    """As OpenAI's dVAE: objects of classes that nobody here has."""

    def module(word, parameters=b"}", modules=b"}"):
        found = name("dall_e.encoder", word)
        if legacy:
            note = several(text("module"), found, text("encoder.py"), text("x = 1"))
            found = note + b"Q"
        state = entries(
            n_in=number(3), _parameters=parameters, _modules=modules, _buffers=b"}"
        )
        return found + b")\x81" + state + b"b"

    weight = tensor("0", 12, (12,), (1,), legacy=legacy)
    conv = module("Conv2d", entries(w=weight, b=b"N"))
    tree = module(
        "Encoder",
        modules=entries(blocks=module("Sequential", b"}", entries(input=conv))),
    )
    write = write_legacy if legacy else write_zip
    read = read_torch(write(tmp_path / "encoder.pkl", tree, {"0": VALUES}))
    assert list(read) == ["blocks.input.w"]
    np.testing.assert_array_equal(read["blocks.input.w"], VALUES)


def test_a_damaged_storage_is_found(tmp_path):
    path = write_zip(
        tmp_path / "x.pt", entries(x=tensor("0", 12, (12,), (1,))), {"0": VALUES}
    )
    data = bytearray(path.read_bytes())
    place = data.index(VALUES.tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="storage 0 is damaged"):
        read_torch(path)


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle wants what is called to be callable, when it writes."""


def attacks(canary):
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w')"
    module = Attack(importlib.import_module, "os")
    return {
        "posix.system": Attack(os.system, touch),
        "builtins.eval": Attack(eval, code),
        "builtins.exec": Attack(exec, code),
        "builtins.getattr": Attack(Attack(getattr, module, "system"), touch),
        "importlib.import_module": module,
        "_io.open": Attack(open, str(canary), "w"),
        "builtins.bytearray": bytearray(10),
        "pathlib": canary,
        "numpy.ndarray": np.ndarray,
        "collections.Counter": collections.Counter("a"),
        "operator.attrgetter": importlib.import_module("operator").attrgetter("a"),
    }


# Classes make objects that do nothing, and a name that is not called does nothing.
HARMLESS = ("numpy.ndarray", "collections.Counter", "pathlib")
ATTACKS = [key for key in attacks("x") if key != "pathlib"] + ["pathlib"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_called_and_the_name_is_said(tmp_path, attack, protocol):
    canary = tmp_path / "canary"
    data = pickle.dumps({"w": attacks(canary)[attack]}, protocol)
    # On its own, in a zip, and between the pickles of a legacy file.
    (tmp_path / "x.pkl").write_bytes(data)
    write_zip(tmp_path / "x.pt", data[2:-1])
    write_legacy(tmp_path / "old.pt", data[2:-1], {})
    wanted = "refused: it (uses|calls).*"
    if attack in HARMLESS:
        wanted = "holds no arrays"
    elif attack == "builtins.bytearray" and protocol == 5:
        wanted += "BYTEARRAY8"
    else:
        # What is called first.
        attack = {"builtins.getattr": "importlib.import_module"}.get(attack, attack)
        module, attribute = attack.split(".")
        python_2 = {"builtins": "__builtin__", "_io": "io"} if protocol == 2 else {}
        wanted += f"{python_2.get(module, module).lstrip('_')}.*{attribute}"
    for file in ("x.pt", "old.pt"):
        with pytest.raises(UserError, match=wanted):
            read_torch(tmp_path / file)
    if attack != "numpy.ndarray":
        with pytest.raises(UserError, match=wanted):
            read_array_pickle(tmp_path / "x.pkl")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (b"}q\x00(" + text("self") + b"h\x00u", "holds no arrays"),
        (b"h\x07", "damaged"),
        (b"}" + several(number(1)) + b"Ns", "key of type tuple"),
        (b"}" + b"C\x01aNs", "key of type bytes"),
        (text("posix") + b"q\x00" + b"0" + b"N", "instruction POP"),
        (text("posix") + text("system") + b"\x93)R", "calls posix.system"),
        (several(text("torch")) + text("x") + b"\x93", "damaged"),
        (b"(S'touch x'\niposix\nsystem\n", "instruction STRING"),
        (b"}" + entries(build=b"N") + b"b" + b")R", "calls something else"),
        (name("torch", "FloatStorage") + b")R", "calls torch.FloatStorage"),
        (b")" + entries(x=b"N") + b"b", "sets attributes of a tuple"),
        (b"\x82\x01", "instruction EXT1"),
        (b"P0\n", "instruction PERSID"),
        (text("x") + b"Q", "no storage"),
        (several(name("torch", "FloatStorage")) + b"Q", "no storage"),
        (b"}", "holds no arrays"),
        (b"N" * 3, "damaged"),
        (b")" + b"\x85" * 200_000, "nest too deep"),
        (entries(x=b")" + b"\x85" * 200_000 + b"Q"), "no storage"),
        (SHARED, "nest too deep or hold too much"),
        (b"}" * 3_000_000, "more instructions than any network"),
        (b"}(" + (text("w") + b"N") * 2 + b"u", "its name 'w' is there twice"),
        (b"}" + (text("w") + b"Ns") * 2, "its name 'w' is there twice"),
        (name("x" * 9000, "y") + b")R", "calls xxx"),
    ],
)
def test_tricks(tmp_path, tree, message):
    with pytest.raises(UserError, match=message) as caught:
        read_torch(write_zip(tmp_path / "x.pt", tree))
    assert len(str(caught.value)) < 400


def test_two_tensors_of_one_flat_name(tmp_path):
    one = tensor("0", 12, (12,), (1,))
    tree = b"}(" + text("a") + entries(b=one) + text("a.b") + one + b"u"
    with pytest.raises(UserError, match="'a.b' is there twice"):
        read_torch(write_zip(tmp_path / "x.pt", tree, {"0": VALUES}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0", 1 << 40, (12,), (1,)), "larger than its member"),
        (("0", 13, (13,), (1,)), "larger than its member"),
        (("0", 12, (13,), (1,)), "outside its storage"),
        (("0", 12, (3, 4), (5, 1)), "outside its storage"),
        (("0", 12, (12,), (1,), 1), "outside its storage"),
        (("0", 12, (12,), (1,), -1), "damaged"),
        (("0", 12, (-1,), (1,)), "damaged"),
        (("0", 12, (2,), (-1,), 5), "damaged"),
        (("0", 12, (1 << 30, 12), (0, 1)), "outside its storage"),
        (("0", 12, (12,), ()), "strides"),
        (("0", 12, (0, 1 << 47, 1 << 47), (1, 1, 1)), "a shape of too many values"),
        (("1", 12, (12,), (1,)), "data/1 is missing"),
        (("../data.pkl", 1, (1,), (1,)), "data/../data.pkl is missing"),
    ],
)
def test_tensors_stay_in_their_storage(tmp_path, arguments, message):
    path = write_zip(tmp_path / "x.pt", entries(x=tensor(*arguments)), {"0": VALUES})
    with pytest.raises(UserError, match=message):
        read_torch(path)


def test_one_storage_under_a_thousand_names(tmp_path):
    big = np.zeros(50_000, np.float32)
    view = tensor("0", big.size, (big.size,), (1,)) + b"q\x00"
    tree = b"}(" + text("x") + view
    tree += b"".join(text(str(i)) + b"h\x00" for i in range(1000)) + b"u"
    with pytest.raises(UserError, match="share storages too often"):
        read_torch(write_zip(tmp_path / "x.pt", tree, {"0": big}))


def test_a_member_longer_than_its_storage(tmp_path):
    """Also by no whole number of values."""
    path = tmp_path / "x.pt"
    odd = np.frombuffer(VALUES.tobytes() + b"odd", np.uint8)
    write_zip(path, entries(x=tensor("0", 12, (12,), (1,))), {"0": odd})
    np.testing.assert_array_equal(read_torch(path)["x"], VALUES)


def test_archives(tmp_path):
    tree = entries(x=tensor("0", 12, (12,), (1,)))
    path = write_zip(tmp_path / "x.pt", tree, {"0": VALUES}, byteorder="big")
    with pytest.raises(UserError, match="big-endian"):
        read_torch(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", START + tree + END)
    with pytest.raises(UserError, match="compressed"):
        read_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/readme", b"")
    with pytest.raises(UserError, match="no data.pkl"):
        read_torch(path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning):
        archive.writestr("net/data.pkl", START + tree + END)
        archive.writestr("net/data.pkl", START + tree + END)
    with pytest.raises(UserError, match="two members"):
        read_torch(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_cut_or_changed_files_raise_nothing_else(tmp_path, legacy):
    tree = entries(x=tensor("0", 12, (12,), (1,), legacy=legacy))
    write = write_legacy if legacy else write_zip
    whole = write(tmp_path / "x.pt", tree, {"0": VALUES}).read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(len(whole), size=40):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_torch(tmp_path / "x.pt")
    for _ in range(400):
        data = bytearray(whole)
        data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / "x.pt").write_bytes(data)
        try:
            read_torch(tmp_path / "x.pt")
        except UserError as error:
            assert "x.pt" in str(error)


def test_missing_file_and_html(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_torch(tmp_path / "none.pth")
    (tmp_path / "x.pth").write_bytes(b"<!doctype html>")
    with pytest.raises(UserError, match="refused"):
        read_torch(tmp_path / "x.pth")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_numpy_pickles(tmp_path, protocol):
    tree = {
        "a": {"b": VALUES.reshape(3, 4), "c": np.asfortranarray(VALUES.reshape(3, 4))},
        "d": np.arange(3, dtype=">i4"),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(tree, protocol))
    read = read_array_pickle(tmp_path / "x.pkl")
    assert list(read) == ["a/b", "a/c", "d"]
    np.testing.assert_array_equal(read["a/b"], tree["a"]["b"])
    np.testing.assert_array_equal(read["a/c"], tree["a"]["c"])
    np.testing.assert_array_equal(read["d"], tree["d"])


def test_numpy_objects_are_refused(tmp_path):
    stream = io.BytesIO()
    pickle.dump({"x": np.array([{}], object)}, stream, 4)
    (tmp_path / "x.pkl").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match="no plain dtype"):
        read_array_pickle(tmp_path / "x.pkl")
