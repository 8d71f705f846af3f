"""What a compiled program moves: bytes to memory and between devices.

XLA's own cost analysis counts the body of a loop once. This reads the program's text,
multiplies by trip counts, counts of a slice what is sliced, and leaves out what stays
in the chip's fast memory (memory space `S(1)` and above).
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "iota",
    "optimization-barrier",
}


class Traffic(NamedTuple):
    """What one run moves on one device. memory: bytes read and written. network: bytes
    that cross its links in one direction, and calls: how often, by collective."""

    memory: float
    network: dict[str, float]
    calls: dict[str, float]


class _Op(NamedTuple):
    name: str
    kind: str
    type: str
    inside: str
    rest: str
    is_root: bool

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.inside)


@dataclass
class _Computation:
    ops: dict[str, _Op] = field(default_factory=dict)

    @property
    def root(self) -> _Op:
        return next(op for op in self.ops.values() if op.is_root)


def traffic(text: str, unknown: int = 1) -> Traffic:
    """Counts the optimised HLO text of a compiled program.

    unknown: trips of a loop whose number is not in the text.
    """
    computations, entry = _parse(text)
    total = _Total(unknown)
    _walk(computations, entry, 1.0, total)
    return Traffic(total.memory, dict(total.network), dict(total.calls))


class _Total:
    def __init__(self, unknown: int):
        self.unknown = unknown
        self.memory, self.network, self.calls = 0.0, Counter(), Counter()


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if found := re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            current = computations[found[2]] = _Computation()
            entry = found[2] if found[1] else entry
        elif current is not None and (found := _LINE.match(line)):
            op = _op(found[1], line[found.end() :], "ROOT " in line[: found.end()])
            current.ops[op.name] = op
    return computations, entry


def _op(name: str, line: str, is_root: bool) -> _Op:
    end = _closing(line, 0) + 1 if line.startswith("(") else line.index(" ")
    kind, _, rest = line[end:].strip().partition("(")
    close = _closing("(" + rest, 0) - 1
    return _Op(name, kind, line[:end], rest[:close], rest[close:], is_root)


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError("the program's text has an open parenthesis")


def _walk(computations, name: str, times: float, total: _Total) -> None:
    """Adds `times` runs of a computation."""
    ops = computations[name].ops
    for op in ops.values():
        kind = op.kind.removesuffix("-start")
        if kind == "while":
            body, condition = _called(op, "body"), _called(op, "condition")
            trips = _trips(op, computations[condition], total.unknown)
            _walk(computations, body, times * trips, total)
        elif kind == "conditional":
            _walk(computations, _heaviest(computations, op, total), times, total)
        elif kind in ("call", "async"):
            _walk(computations, _called(op, "calls|to_apply"), times, total)
        elif kind not in _FREE and not kind.endswith(("-done", "-update")):
            total.memory += times * _memory(op, ops, computations)
            _send(computations, op, times, total)


def _send(computations, op: _Op, times: float, total: _Total) -> None:
    """Adds a collective, or those inside of a fusion: TPUs run them beside products."""
    kind = op.kind.removesuffix("-start")
    if kind in COLLECTIVES:
        total.calls[kind] += times
        total.network[kind] += times * _crossing(kind, op)
    elif kind == "fusion":
        name = _called(op, "calls")
        for inner in computations[name].ops.values():
            if "all-reduce-scatter" in name and inner.kind == "all-reduce":
                # How TPUs spell a reduce-scatter; it goes round the ring once.
                total.calls["reduce-scatter"] += times
                sent = _crossing("all-reduce", inner) / 2
                total.network["reduce-scatter"] += times * sent
            else:
                _send(computations, inner, times, total)


def _called(op: _Op, key: str) -> str:
    return re.search(rf"(?:{key})=%?([\w.\-]+)", op.rest)[1]


def _heaviest(computations, op: _Op, total: _Total) -> str:
    """The branch that moves most: an update, not the skipping of one."""
    names = re.search(r"branch_computations=\{([^}]*)\}", op.rest)
    if names:
        branches = [name.strip().lstrip("%") for name in names[1].split(",")]
    else:
        branches = [_called(op, f"{side}_computation") for side in ("true", "false")]

    def weight(name):
        branch = _Total(total.unknown)
        _walk(computations, name, 1.0, branch)
        return branch.memory

    return max(branches, key=weight)


def _trips(op: _Op, condition: _Computation, unknown: int) -> int:
    """Trip count: stated, or the constant that the condition compares with."""
    if known := re.search(r"known_trip_count[^\d]*(\d+)", op.rest):
        return int(known[1])
    values = (op.inside for op in condition.ops.values() if op.kind == "constant")
    return max((int(x) for x in values if x.isdigit()), default=0) or unknown


def _memory(op: _Op, ops, computations) -> float:
    """Bytes that an operation reads from and writes to the chip's main memory."""
    if op.kind in ("slice-start", "dynamic-slice-start"):
        # Operands, what was moved, and a context.
        return _arrays(op.type, everywhere=True)[len(op.operands)]
    if op.kind.endswith("-start") or op.kind in ("slice", "dynamic-slice", "gather"):
        # The result is what was moved; it may lie in fast memory.
        arrays = _arrays(op.type, everywhere=True)
        return max(arrays, default=0.0)
    if op.kind == "dynamic-update-slice":
        return 2 * _bytes(ops[op.operands[1]].type)
    sizes = {
        i: _bytes(ops[name].type) for i, name in enumerate(op.operands) if name in ops
    }
    written = _bytes(op.type)
    if op.kind == "fusion":
        inner = computations[_called(op, "calls")]
        written = _update(inner, written, sizes)
        sizes |= _slices(inner, sizes)
    return written + sum(sizes.values())


def _slices(inner: _Computation, sizes: dict[int, float]) -> dict[int, float]:
    """Bytes of the arguments of which a fusion only reads slices."""
    users: dict[str, list[_Op]] = {}
    for op in inner.ops.values():
        for name in op.operands:
            users.setdefault(name, []).append(op)
    found = {}
    for op in inner.ops.values():
        readers = users.get(op.name, [])
        parts = ("dynamic-slice", "slice", "gather")
        sliced = all(user.kind in parts for user in readers)
        if op.kind == "parameter" and readers and sliced and sizes.get(int(op.inside)):
            read = sum(_bytes(user.type, everywhere=True) for user in readers)
            found[int(op.inside)] = min(read, sizes[int(op.inside)])
    return found


def _update(inner: _Computation, written: float, sizes: dict[int, float]) -> float:
    """Bytes that a fusion writes; one that updates in place writes the update."""
    root = inner.root
    while root.kind == "bitcast":
        root = inner.ops[root.operands[0]]
    if root.kind != "dynamic-update-slice":
        return written
    target = inner.ops[root.operands[0]]
    while target.kind == "bitcast":
        target = inner.ops[target.operands[0]]
    if target.kind == "parameter":
        sizes[int(target.inside)] = 0.0
    return _bytes(inner.ops[root.operands[1]].type, everywhere=True)


def _arrays(
    type_text: str, everywhere: bool = False, padded: bool = True
) -> list[float]:
    """Bytes of each array of a type; 0 for those in fast memory or on the host.

    padded: with what fills up the tiles of a TPU, which is moved as well.
    """
    found = []
    for kind, dims, layout in _ARRAY.findall(type_text):
        bits = _BITS.get(kind) or int(re.match(r"[a-z]+(\d+)", kind)[1])
        sizes = [int(size) for size in dims.split(",") if size]
        sizes = _padded(sizes, layout) if padded else sizes
        away = re.search(r"S\([1-9]", layout) and not everywhere
        found.append(0.0 if away else math.prod(sizes) * bits / 8)
    return found


def _padded(sizes: list[int], layout: str) -> list[int]:
    """Sizes in whole tiles: `2,1,0:T(8,128)` has axis 2 in 128 lanes, axis 1 in 8."""
    tile = re.search(r"T\(([\d,]+)\)", layout)
    if not tile or not sizes:
        return sizes
    axes = [int(axis) for axis in layout.partition(":")[0].split(",")]
    tiles = [int(size) for size in tile[1].split(",")]
    sizes = list(sizes)
    for axis, size in zip(axes, reversed(tiles), strict=False):
        sizes[axis] += -sizes[axis] % size
    return sizes


def _bytes(type_text: str, everywhere: bool = False) -> float:
    return sum(_arrays(type_text, everywhere))


def _crossing(kind: str, op: _Op) -> float:
    """Bytes that leave a device over a ring of the group."""
    arrays = _arrays(op.type, everywhere=True, padded=False)
    ways = _group(op.rest)
    if kind == "collective-permute":
        return arrays[0]
    if kind == "all-reduce":
        return 2 * sum(arrays) * (ways - 1) / ways
    if kind == "reduce-scatter":
        return sum(arrays) * (ways - 1)
    # A start has its argument in its type too: the result is the largest.
    whole = max(arrays) if op.kind.endswith("-start") else sum(arrays)
    return whole * (ways - 1) / ways


def _group(rest: str) -> int:
    """Devices of a replica group, in any of its three spellings."""
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
        return math.prod(
            int(sizes[axis]) for axis in re.findall(r"'([^']+)'", found[2])
        )
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return found[1].count(",") + 1
    return 1
