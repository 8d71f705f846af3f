"""Arrays from untrusted pickles, without unpickling them.

A pickle is a program for a stack machine, and two of its instructions, "import this"
and "call that", are all that an attacker needs. Here the standard library only cuts the
file into instructions (`pickletools.genops` parses, it runs nothing); the machine below
knows the few that arrays need, and a name asked for by GLOBAL is looked up in a table
of our own. Nothing is imported and no object of a foreign class is made. An object of a
class that is not in the table is a dict of its attributes (`Inert`), so that arrays in
it are found; a call of any other name is refused. `interop/torch_files.py` reads files
of PyTorch.
"""

import math
import os
import pickletools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import numpy as np

from cogjax.errors import UserError, shown

# Nesting and names of any network are far below; a cycle or a bomb is above.
_MAX_DEPTH = 32
_MAX_NAME = 1000
_MAX_ARRAYS = 200_000
_MAX_VISITS = 1_000_000
_MAX_INSTRUCTIONS = 2_000_000

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_ARGUMENTS = (
    {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT = {"BINPUT", "LONG_BINPUT"}
_GET = {"BINGET", "LONG_BINGET"}
_NOTHING = {"PROTO", "FRAME"}
_PYTHON = ("set", "frozenset", "slice", "complex", "object")
# Classes and makers of objects whose names begin small; the objects mean nothing here.
_HARMLESS = {
    *(f"{module} {name}" for module in ("builtins", "__builtin__") for name in _PYTHON),
    *(f"{module} _reconstructor" for module in ("copyreg", "copy_reg")),
    *(
        f"numpy.{core}.multiarray {name}"
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    *(
        f"numpy.random._pickle {name}"
        for name in ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor")
    ),
    *("functools partial", "numpy dtype", "torch device"),
    *("collections defaultdict", "collections deque", "datetime datetime"),
}
_MARK = object()


@dataclass(frozen=True)
class Known:
    """A name that a pickle asked for: `value` is ours, never the object of that name.

    value: a function of the arguments of a call, or anything else where the name is
    only mentioned; None is a name that we do not know.
    """

    name: str
    value: Any


class Inert(dict):
    """Attributes or entries of an object, whose class stays unknown."""

    __hash__ = object.__hash__  # Such an object may be a key.

    def __init__(self, *_):
        super().__init__()

    def build(self, state: Any) -> None:
        """Takes the attributes of a pickle, alone or in front of those of slots."""
        if type(state) is tuple and state:
            state = state[0]
        if isinstance(state, dict):
            self.update(state)


class NoArrays(UserError):
    """A file that is sound, and holds nothing that could be weights."""


def _is_class(name: str) -> bool:
    """Whether "module name" is spelt like a class, which only makes objects."""
    return name.rpartition(" ")[2].rpartition(".")[2][:1].isupper()


class PickleMachine:
    """Runs the instructions of one pickle after the other on a stack of plain data.

    known: what each "module name" of a GLOBAL stands for, or None if it is not known.
    persistent: makes a value of a persistent id, as PyTorch's storages are.
    what: names the file in errors.
    """

    def __init__(
        self,
        what: str,
        known: Callable[[str], Any],
        persistent: Callable[[Any], Any] | None = None,
    ):
        self.what = what
        self._known = known
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        """The value of the pickle at the file's position, which moves behind it.

        Raises UserError for any other instruction than those of plain objects, for a
        call of what is neither known nor a class, and for a damaged file.
        """
        self._stack, self._memo = [], {}
        try:
            with warnings.catch_warnings():
                # Invalid escapes in strings of the oldest protocol, which is refused.
                warnings.simplefilter("ignore")
                for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                    if count > _MAX_INSTRUCTIONS:
                        self.refuse("it has more instructions than any network needs")
                    if opcode.name == "STOP":
                        (value,) = self._stack
                        return value
                    self._step(opcode.name, argument)
        except (ValueError, LookupError, TypeError) as error:
            self.refuse(f"it is damaged ({str(error)[:100]})", error)
        except (AttributeError, ArithmeticError, MemoryError, RecursionError) as error:
            self.refuse(f"it is damaged ({str(error)[:100]})", error)
        self.refuse("it is cut short")

    def refuse(self, why: str, cause: Exception | None = None) -> NoReturn:
        """Raises the UserError of this file."""
        raise UserError(f"{self.what} refused: {why}") from cause

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _NOTHING:
            return
        if name in _ARGUMENTS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(self._last(count))]
        elif name in _PUT:
            self._memo[argument] = self._last(1)[0]
        elif name in _GET:
            stack.append(self._memo[argument])
        else:
            method = _METHODS.get(name)
            if method is None:
                self.refuse(f"it uses the pickle instruction {name}; arrays need none")
            method(self, argument)

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count or any(x is _MARK for x in self._stack[-count:]):
            raise ValueError("values are missing on the stack")
        return self._stack[-count:]

    def _pop(self) -> Any:
        (value,) = self._last(1)
        self._stack.pop()
        return value

    def _pop_marked(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _mark(self, _) -> None:
        self._stack.append(_MARK)

    def _memoize(self, _) -> None:
        self._memo[len(self._memo)] = self._last(1)[0]

    def _tuple(self, _) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def _extend(self, items: list[Any]) -> None:
        (target,) = self._last(1)
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Inert:
            raise ValueError("items of what is no list")

    def _update(self, items: list[Any]) -> None:
        (target,) = self._last(1)
        if type(target) not in (dict, Inert) or len(items) % 2:
            raise ValueError("entries of what is no dict")
        entries = self._entries(zip(items[::2], items[1::2], strict=True))
        if twice := target.keys() & entries.keys():
            self.refuse(f"its name {shown(next(iter(twice)))} is there twice")
        target.update(entries)

    def _entries(self, pairs) -> dict[Any, Any]:
        entries = {}
        for key, value in pairs:
            # A tuple may nest too deep to be a key.
            if type(key) not in (str, int, bool, Known, Inert):
                self.refuse(f"a dict has a key of type {type(key).__name__}, not str")
            if type(key) is int and key.bit_length() > 64:
                self.refuse("a dict has a key of more than 64 bits")
            if key in entries:
                self.refuse(f"its name {shown(key)} is there twice")
            entries[key] = value
        return entries

    def _global(self, name: str) -> None:
        value = self._known(name)
        if value is None and (name in _HARMLESS or _is_class(name)):
            value = Inert
        self._stack.append(Known(name, value))

    def _stack_global(self, _) -> None:
        module, name = self._pop_two()
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is no text")
        self._global(f"{module} {name}")

    def _pop_two(self) -> tuple[Any, Any]:
        second = self._pop()
        return self._pop(), second

    def _reduce(self, _) -> None:
        function, arguments = self._pop_two()
        if type(function) is not Known or type(arguments) is not tuple:
            self.refuse("it calls something else than the known names")
        if not callable(function.value):
            readable = function.name.replace(" ", ".")[:100]
            self.refuse(f"it calls {readable}, and only arrays are read from it")
        if function.value is dict:
            # OrderedDict() or, from Python 2, OrderedDict([[key, value], ...]).
            pairs = arguments[0] if arguments else []
            self._stack.append(self._entries(pairs))
        else:
            self._stack.append(function.value(*arguments))

    def _build(self, _) -> None:
        target, state = self._pop_two()
        if hasattr(target, "build"):
            target.build(state)
        elif type(target) is not dict:
            self.refuse(f"it sets attributes of a {type(target).__name__}")
        # Attributes of an OrderedDict are notes, such as PyTorch's _metadata.
        self._stack.append(target)

    def _empty_set(self, _) -> None:
        self._stack.append(Inert())

    def _frozen_set(self, _) -> None:
        self._pop_marked()
        self._stack.append(Inert())

    def _persistent_id(self, _) -> None:
        if self._persistent is None:
            self.refuse("it refers to data outside of it")
        self._stack.append(self._persistent(self._pop()))


_METHODS: dict[str, Callable[[PickleMachine, Any], None]] = {
    "MARK": PickleMachine._mark,
    "MEMOIZE": PickleMachine._memoize,
    "TUPLE": PickleMachine._tuple,
    "APPEND": lambda self, _: self._extend([self._pop()]),
    "APPENDS": lambda self, _: self._extend(self._pop_marked()),
    "SETITEM": lambda self, _: self._update(list(self._pop_two())),
    "SETITEMS": lambda self, _: self._update(self._pop_marked()),
    "GLOBAL": PickleMachine._global,
    "STACK_GLOBAL": PickleMachine._stack_global,
    "REDUCE": PickleMachine._reduce,
    "NEWOBJ": PickleMachine._reduce,
    "BUILD": PickleMachine._build,
    "BINPERSID": PickleMachine._persistent_id,
    "EMPTY_SET": PickleMachine._empty_set,
    "ADDITEMS": lambda self, _: self._extend(self._pop_marked()),
    "FROZENSET": PickleMachine._frozen_set,
}


T = TypeVar("T")


def flatten_arrays(
    tree: Any, what: str, array: Callable[[Any], T | None], joint: str
) -> dict[str, T]:
    """Arrays of nested dicts and lists by their joined names; all else is left out.

    What is in a list has its number as its name. A module of PyTorch has the names of
    its state dict. array: makes an array of a leaf, or None of what is no array.
    Raises UserError for what nests too deep, holds too much, or holds no array.
    """
    flat: dict[str, T] = {}
    inside: set[int] = set()
    visits = 0

    def visit(node: Any, path: tuple[str, ...]) -> None:
        nonlocal visits
        visits += 1  # Dicts that share children can be small and yet endless.
        too_many = visits > _MAX_VISITS or len(flat) > _MAX_ARRAYS
        if len(path) > _MAX_DEPTH or too_many:
            raise UserError(f"{what} refused: its dicts nest too deep or hold too much")
        if isinstance(node, Mapping | list | tuple):
            if id(node) in inside:
                return  # Parts that name the whole they are of, as OmegaConf's do.
            inside.add(id(node))
            for name, value in _children(node):
                visit(value, (*path, name))
            inside.remove(id(node))
        elif (leaf := array(node)) is not None:
            name = joint.join(path)
            if len(name) > _MAX_NAME:
                raise UserError(
                    f"{what} refused: it has a name of more than {_MAX_NAME} characters"
                )
            if name in flat:
                raise UserError(f"{what} refused: {shown(name)} is there twice")
            flat[name] = leaf

    visit(tree, ())
    if not flat:
        raise NoArrays(f"{what} refused: it holds no arrays under names")
    return flat


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of what a dict, list, object or module of PyTorch holds."""
    if isinstance(node, list | tuple):
        yield from ((str(i), value) for i, value in enumerate(node))
        return
    parts = ("_parameters", "_buffers", "_modules")
    groups = [node]
    if isinstance(node, Inert) and "_modules" in node:
        groups = [node.get(part) for part in parts]
    for group in groups:
        if isinstance(group, Mapping):
            for name, value in group.items():
                if type(name) in (str, int):
                    yield str(name), value


class _Dtype:
    """numpy.dtype(code, align, copy), then a state whose second item is the order."""

    CODES = frozenset("f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split())

    def __init__(self, code: str, align: Any = False, copy: Any = True):
        if type(code) is not str or code not in self.CODES:
            raise ValueError("an array of no plain dtype")
        self.dtype = np.dtype(code)

    def build(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|"):
            raise ValueError("a byte order that is none")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """numpy's way to pickle an array: an empty one, then its state."""

    def __init__(self, *_):
        self.array: np.ndarray | None = None

    def build(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C")


def check_sizes(sizes: Any) -> None:
    """ValueError unless `sizes` is a tuple of few whole numbers from 0 to 2^48.

    Their product, without those that are 0, must be below that too.
    """
    if type(sizes) is not tuple or len(sizes) > _MAX_DEPTH:
        raise ValueError("a shape that is no short tuple")
    if any(type(size) is not int or not 0 <= size < 1 << 48 for size in sizes):
        raise ValueError("a shape that is not of whole numbers")
    if math.prod(size for size in sizes if size) >= 1 << 48:
        raise ValueError("a shape of too many values")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if type(data) is not bytes or type(dtype) is not _Dtype:
        raise ValueError("an array without bytes or dtype")
    check_sizes(shape)
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


def _latin_1(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes for protocol 2."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("bytes that are no text in latin1")
    return text.encode("latin1")


_NUMPY: dict[str, Any] = {
    "_codecs encode": _latin_1,
    "numpy ndarray": "an argument of _reconstruct",
    "numpy dtype": _Dtype,
    "numpy.core.multiarray _reconstruct": _Array,
    "numpy._core.multiarray _reconstruct": _Array,
    "collections OrderedDict": dict,
}


def read_array_pickle(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Arrays of a pickle of nested dicts of NumPy arrays, by names joined with "/".

    Raises UserError for a missing file, and for one that calls anything else.
    """
    what = f"weights {Path(path)}"
    try:
        with open(path, "rb") as file:
            tree = PickleMachine(what, _NUMPY.get).run(file)
    except OSError as error:
        raise UserError(f"cannot read {what}: {error.strerror}") from error

    def array(leaf: Any) -> np.ndarray | None:
        return leaf.array if isinstance(leaf, _Array) else None

    return flatten_arrays(tree, what, array, "/")
