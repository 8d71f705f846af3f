"""Ways to damage a file, knowing its structure: bytes, JSON, pickles, tar, PNG, zip."""

import io
import json
import pickletools
import struct
import tarfile
import zipfile
import zlib

import msgpack

# Integers at which readers go wrong, in the sizes that formats use.
NUMBERS = (0, 1, -1, 127, 255, 2**15, 2**31 - 1, 2**31, 2**47, 2**63 - 1, -(2**63))
VALUES = (None, True, False, 0, -1, 1.5, 1e308, 10**20, "", "x" * 5000, [], {}, [[]])
VALUES += ("../x", "a.b", "\0", "\ud800", "nan", ["a"] * 300, {"a": {"b": 1}})


def some_bytes(rng, data: bytes) -> bytes:
    """One change of the bytes themselves."""
    data, size = bytearray(data), len(data)
    place, length = rng.randrange(size + 1), rng.choice((1, 2, 8, 64, 1000))
    part = bytes(data[place : place + length])
    kind = rng.randrange(8)
    if kind == 0 and place < size:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[place : place + length] = rng.randbytes(len(part))
    elif kind == 2:
        del data[place : place + length]
    elif kind == 3:
        data[place:place] = part
    elif kind == 4:
        del data[place:]
    elif kind == 5:
        other = rng.randrange(size + 1)
        data[other : other + len(part)] = part
    elif kind == 6:
        data[place : place + 8] = a_number(rng)
    else:
        data[place:place] = rng.choice((b"\0", b"\xff", b"\n", b"[" * 3000, b"{", b'"'))
    return bytes(data)


def a_number(rng) -> bytes:
    form = rng.choice(("<q", ">q", "<i", ">i"))
    low = -(2**63) if form[1] == "q" else -(2**31)
    return struct.pack(form, max(low, min(-low - 1, rng.choice(NUMBERS))))


def some_json(rng, data: bytes) -> bytes:
    """One node of a JSON document, or bytes of it."""
    if rng.random() < 0.1:
        return some_bytes(rng, data)
    return json.dumps(some_node(rng, json.loads(data))).encode()


def some_record(rng, data: bytes) -> bytes:
    """As `some_json`, of msgpack."""
    if rng.random() < 0.3:
        return some_bytes(rng, data)
    return msgpack.packb(some_node(rng, msgpack.unpackb(data)))


def some_node(rng, tree):
    """The tree with a node replaced, removed, renamed, damaged or exchanged."""
    holders = [node for node in nodes(tree) if node]
    if not holders:
        return rng.choice(VALUES)
    node = rng.choice(holders)
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key, other = rng.choice(keys), rng.choice(keys)
    kind = rng.randrange(5)
    if kind == 0:
        node[key], node[other] = node[other], node[key]
    elif kind == 1:
        del node[key]
    elif kind == 2 and isinstance(node, dict):
        node[rng.choice(("", "a.b", "x" * 300, "../x", str(other)))] = node.pop(key)
    elif kind == 3 and type(node[key]) in (int, float):
        node[key] = rng.choice((*NUMBERS, -node[key], node[key] + 1, node[key] * 1e9))
    elif kind == 3 and isinstance(node[key], bytes):
        node[key] = some_numbers(rng, node[key])
    else:
        node[key] = rng.choice(VALUES)
    return tree


def nodes(tree):
    """All dicts and lists of a tree."""
    if isinstance(tree, dict | list):
        yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from nodes(value)


def some_lines(rng, data: bytes) -> bytes:
    """One line of a text changed, lost, doubled or joined with the next."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        lines[place] = some_bytes(rng, lines[place])
    elif kind == 1:
        del lines[place]
    elif kind == 2:
        lines.insert(place, lines[place])
    elif kind == 3:
        lines[place] = lines[place].replace(b",", b",,").replace(b":", b"::")
    elif kind == 4:
        lines[place] = lines[place].decode("utf-8", "replace").encode("utf-16-le")
    else:
        lines[place] += rng.choice(
            (b'"', b",", b"\0", b"\r", b"\xe2\x80\xa8", b"]" * 99)
        )
    return b"\n".join(lines)


def some_safetensors(rng, data: bytes) -> bytes:
    """The header as JSON, or a part of the data; the length of the header fits."""
    size = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + size], data[8 + size :]
    if rng.random() < 0.4:
        return data[: 8 + size] + some_numbers(rng, rest)
    header = some_json(rng, header)
    if rng.random() < 0.2:
        header = header[:-1] + b"," + header[1:]  # Every name twice.
    return len(header).to_bytes(8, "little") + header + rest


def some_numbers(rng, data: bytes) -> bytes:
    """A float of an array: not finite, huge, tiny, or another bit."""
    if len(data) < 4:
        return data
    place = 4 * rng.randrange(len(data) // 4)
    values = (float("nan"), float("inf"), -float("inf"), 3e38, 1e-40, 0.0)
    found = bytearray(data)
    found[place : place + 4] = struct.pack("<f", rng.choice(values))
    return bytes(found) if rng.random() < 0.7 else some_bytes(rng, data)


def some_pickle(rng, data: bytes) -> bytes:
    """One instruction lost, doubled, moved or replaced by another one of the file."""
    try:
        places = [place for *_, place in pickletools.genops(data)]
    except Exception:
        return some_bytes(rng, data)
    ends = [*places[1:], len(data)]
    parts = [data[a:b] for a, b in zip(places, ends, strict=True)]
    place, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    kind = rng.randrange(6)
    if kind == 0:
        del parts[place]
    elif kind == 1:
        parts[place] *= rng.choice((2, 50))
    elif kind == 2:
        parts[place], parts[other] = parts[other], parts[place]
    elif kind == 3:
        parts[place] = parts[other]
    elif kind == 4:
        new = b"(", b"}", b"]", b")", b"t", b"u", b"s", b"b", b"R", b"Q", b"N", b"h\0"
        parts.insert(place, rng.choice((*new, b"cposix\nsystem\n")))
    else:
        parts[place] = some_bytes(rng, parts[place])
    return b"".join(parts)


def some_zip(rng, data: bytes) -> bytes:
    """One member changed, in an archive whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(list(members))
    if rng.random() < 0.15:
        members[some_bytes(rng, name.encode()).decode("latin-1")] = members.pop(name)
    elif name.endswith(".pkl"):
        members[name] = some_pickle(rng, members[name])
    else:
        members[name] = some_numbers(rng, members[name])
    out = io.BytesIO()
    kind = rng.choice((0, 0, 0, 8))
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in members.items():
            # Large ones are not compressed, which takes longer than reading them all.
            own = kind if len(content) < 1 << 16 else 0
            archive.writestr(member.replace("\0", "") or "x", content, own)
    return out.getvalue()


def some_tar(rng, data: bytes) -> bytes:
    """One field of a member's header, whose checksum is right."""
    found = bytearray(data)
    heads = [i for i in range(0, len(data), 512) if data[i + 257 : i + 262] == b"ustar"]
    if not heads or rng.random() < 0.3:
        return some_bytes(rng, data)
    head = rng.choice(heads)
    fields = (0, 100), (100, 8), (124, 12), (124, 12), (156, 1), (257, 8), (345, 155)
    start, size = rng.choice(fields)
    number = rng.choice(NUMBERS)
    value = rng.choice(
        (
            rng.randbytes(size),
            number.to_bytes(size, "big", signed=True) if size >= 9 else b"7" * size,
            b"%o" % abs(number),
            b"gxLKS5"[rng.randrange(6) :][:1],
        )
    )
    found[head + start : head + start + size] = value[:size].ljust(size, b"\0")
    total = 256 + sum(found[head : head + 148]) + sum(found[head + 156 : head + 512])
    found[head + 148 : head + 156] = b"%06o\0 " % total
    return bytes(found)


def some_image(rng, data: bytes) -> bytes:
    """One chunk of a PNG with its checksum made right, or bytes of another format."""
    if not data.startswith(b"\x89PNG") or rng.random() < 0.3:
        return some_bytes(rng, data)
    chunks, place = [], 8
    while place + 12 <= len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        chunks.append((kind, body))
        place += 12 + size
    which = rng.randrange(len(chunks))
    kind, body = chunks[which]
    change = rng.randrange(4)
    if change == 0:
        chunks.insert(which, chunks[rng.randrange(len(chunks))])
    elif change == 1:
        del chunks[which]
    elif kind == b"IHDR":
        sizes = [struct.pack(">I", n % 2**32) for n in NUMBERS[:8]]
        body = bytearray(body)
        side = rng.choice((0, 4))
        body[side : side + 4] = rng.choice(sizes)
        body[8 + rng.randrange(5)] = rng.randrange(17)
        chunks[which] = kind, bytes(body)
    else:
        chunks[which] = kind, some_bytes(rng, body)
    found = data[:8]
    for kind, body in chunks:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        found += struct.pack(">I", len(body)) + kind + body + crc
    return found


def a_tar(members: dict[str, bytes]) -> bytes:
    """A plain archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
