import io
import json
import os
import re
import tarfile

import pytest
from PIL import Image

from cogjax.data import captions, folder_entries, images
from cogjax.data.captions import clean_caption
from cogjax.data.folder import import_folder
from cogjax.data.output import Output
from cogjax.data.records import decode_image, open_split
from cogjax.errors import UserError


def png(colour="red", size=(12, 9)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "blue").save(buffer, "JPEG")
    return buffer.getvalue()


def add(folder, name, captions="a cat\n", data=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data)
    if isinstance(captions, str):
        captions = captions.encode()
    if captions is not None:
        path.with_suffix(".txt").write_bytes(captions)


def add_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def src(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    for i in range(3):
        add(folder, f"good{i}.png")
    return folder


def imported(src, overwrite=False, **settings):
    """{id: captions} of the imported examples, and {name: reason} of the skipped."""
    settings = {"budget": 0.9} | settings
    report = import_folder(src, Output(src.parent / "out", 8, overwrite), **settings)
    found = {}
    for split in ("train", "val"):
        source = open_split(src.parent / "out", split)
        for i in range(len(source)):
            found[source[i].id] = [text for _, text in source[i].captions]
    return found, dict(report.skipped)


def test_the_source_is_not_written_over(src):
    """Neither where it is, nor where it would lie in the data set."""
    (src / "manifest.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in src.iterdir()}
    for out in (src, src.parent, src / ".." / "src"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match="is or holds"):
                import_folder(src, Output(out, 8, overwrite))
    assert {path.name: path.read_bytes() for path in src.iterdir()} == before


def test_mixed_sources(src):
    add(src, "deep/two.jpg", "one line\n\n  another   line \n猫\n")
    add(src, "table/a.png", None)
    rows = [
        {"file_name": "a.png", "text": "from a\u2028table"},
        {"file_name": "a.png", "caption": ["x", "y"]},
    ]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (src / "table" / "metadata.jsonl").write_text(lines, "utf-8")
    add(src, "sheet/b.png", None)
    (src / "sheet" / "list.csv").write_text('File, Caption\nb.png,"a, ""b"""\n')
    members = [("s/1.png", png()), ("s/1.txt", b"tar"), ("2.JPG", png())]
    members.append(("2.json", b'{"caption": "js", "other": 3}'))
    add_tar(src / "shard.tar", members)
    found, skipped = imported(src)
    assert skipped == {}
    assert found.pop("table/a.png") in (["from a table"], ["x", "y"])
    assert found == {
        **{f"good{i}.png": ["a cat"] for i in range(3)},
        "deep/two.jpg": ["one line", "another line", "猫"],
        "sheet/b.png": ['a, "b"'],
        "shard.tar/s/1": ["tar"],
        "shard.tar/2": ["js"],
    }


def test_pictures_are_fitted(src):
    image = Image.new("RGB", (30, 10), "blue")
    image.paste("red", (0, 0, 6, 10))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    add(src, "wide.png", data=buffer.getvalue())
    imported(src, val_fraction=0)
    source = open_split(src.parent / "out", "train")
    wide = next(e for e in map(source.__getitem__, range(4)) if e.id == "wide.png")
    pixels = decode_image(wide.image)
    assert pixels.shape == (8, 8, 3) and (pixels == [0, 0, 255]).all()


def test_the_caption_field_can_be_chosen(src):
    """In any case, in both kinds of tables."""
    row = {"file_name": "good0.png", "text": "no", "Caption_ZH": "要"}
    (src / "metadata.jsonl").write_text(json.dumps(row))
    (src / "t.csv").write_text("file,text,CAPTION_zh\ngood1.png,no,也要\n")
    found, _ = imported(src, caption_field="Caption_zh")
    assert found["good0.png"] == ["要"] and found["good1.png"] == ["也要"]


CAPTIONS = {
    "empty": (b"", "no caption"),
    "blank": (b" \n\t\n\xe3\x80\x80\n", "no caption"),
    "missing": (None, "no caption file x.txt"),
    "not utf-8": (b"caf\xe9\n", "the caption is not UTF-8 text"),
    "utf-16": ("猫".encode("utf-16"), "the caption is not UTF-8 text"),
    "utf-16 without its mark": (
        "a red cat".encode("utf-16-le"),
        "the caption is not UTF-8 text: it has NUL characters, as UTF-16 does",
    ),
    "control": (b"\x02\x01\x1b\n", "no caption"),
    "escape": (b"a\x02cat\x1b[31m\n", ["a cat [31m"]),
    "other separators": ("a cat\u2028on\x0ba\x85mat\r\n".encode(), ["a cat on a mat"]),
    "1 MB": (b"w " * 500_000, [("w " * 1000).strip()]),
    "bom": (b"\xef\xbb\xbfa cat\r\n", ["a cat"]),
    "emoji": ("👩‍🚀🫨\n".encode(), ["👩‍🚀🫨"]),
    "right to left": ("قطة سوداء\n".encode(), ["قطة سوداء"]),
    "mixed": ("a 猫 cat\n".encode(), ["a 猫 cat"]),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_captions(src, name):
    data, expected = CAPTIONS[name]
    add(src, "x.png", data)
    found, skipped = imported(src)
    if isinstance(expected, str):
        assert skipped == {"x.png": expected} and "x.png" not in found
    else:
        assert found["x.png"] == expected and skipped == {}


def test_lone_surrogates_and_length():
    assert clean_caption("a\ud800b\x85c") == "a b c"
    assert clean_caption("x" * 9999) == "x" * 2000


ROWS = {
    "jsonl": [
        (b'{"file_name": "nowhere.png", "text": "a"}', "cannot be read: No such file"),
        (b'{"file_name": "../../etc/passwd", "text": "a"}', "is outside"),
        (b'{"file_name": "/etc/passwd", "text": "a"}', "is outside"),
        (b'{"file_name": "a\\u0000b", "text": "a"}', "is outside .* or no file name"),
        (b'{"file_name": "loop", "text": "a"}', "cannot be read|is outside"),
        (b'{"file_name": "good0.png"}', "no caption"),
        (b'{"file_name": "good0.png", "text": 5}', "a caption is no text"),
        (b'{"file_name": "good0.png", "text": ["a", 5]}', "a caption is no text"),
        (b'{"file_name": "good0.png", "text": "a\\u0000b"}', "is not UTF-8 text"),
        (b'{"file_name": "pipe", "text": "a"}', "no regular file"),
        (b'{"file_name": 5, "text": "a"}', "names no file"),
        (b'{"text": "a"}', "names no file"),
        (b'{"file_name": "good0.png", "text": "\xff"}', "the row is not UTF-8"),
        (b'{"file_name"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'"good0.png"', "not a JSON object"),
    ],
    "csv": [
        (b"nowhere.png,a", "cannot be read: No such file"),
        (b"../secret.png,a", "is outside"),
        (b"good0.png,", "no caption"),
        (b",a", "names no file"),
        (b"good0.png,caf\xe9", "the row is not UTF-8"),
        (b"good0.png,a cat, on a mat", "3 fields, expected 2: quote a caption"),
        (b"good0.png", "1 fields, expected 2"),
        (b"good0.png," + b"x" * 1_000_000, "not a row of a CSV: field larger"),
        (b'good0.png,"a "cat" sat"', "not a row of a CSV: ',' expected after"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [(kind, *case) for kind, cases in ROWS.items() for case in cases],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_broken_rows_are_skipped_and_the_next_is_read(src, kind, row, reason):
    os.symlink("loop", src / "loop")
    os.mkfifo(src / "pipe")
    table = src / ("metadata.jsonl" if kind == "jsonl" else "table.csv")
    good = {
        "jsonl": b'\n{"file_name": "good1.png", "text": "kept"}\n',
        "csv": b"\ngood1.png,kept\n",
    }
    head = {"jsonl": b"", "csv": b"image,prompt\n"}
    table.write_bytes(head[kind] + row + good[kind])
    found, skipped = imported(src)
    assert found["good1.png"] == ["kept"]
    ((_, found_reason),) = skipped.items()
    assert re.search(reason, found_reason)


def test_a_quote_that_is_not_closed_makes_no_caption(src):
    rows = 'file,caption\ngood0.png,a dog\ngood1.png,"a cat\ngood2.png,a bird\n'
    (src / "table.csv").write_text(rows)
    for i in range(3):
        (src / f"good{i}.txt").unlink()
    found, skipped = imported(src)
    assert found == {"good0.png": ["a dog"]}
    assert skipped["table.csv:2"] == "not a row of a CSV: unexpected end of data"


def test_names_that_are_not_utf8(src):
    try:
        add(src, os.fsdecode(b"\xff.png"))
        add(src, os.fsdecode(b"\xfe.png"), data=b"")
    except OSError:
        pytest.skip("this file system allows UTF-8 names alone")
    found, skipped = imported(src)
    assert found["\\udcff.png"] == ["a cat"]
    assert skipped == {"\\udcfe.png": "the file is empty"}


def test_the_budget_is_a_share_and_exact(tmp_path):
    for i in range(40):
        add(tmp_path / "src", f"{i:02}.png", data=b"" if i % 20 == 7 else None)
    found, skipped = imported(tmp_path / "src", budget=0.05)
    assert sorted(skipped) == ["07.png", "27.png"] and len(found) == 38
    add(tmp_path / "src", "40.png", data=b"<html>")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    message = "3 of 41 entries .* budget of 5.0%: 07.png: the file is empty; 27.png"
    with pytest.raises(UserError, match=message):
        import_folder(tmp_path / "src", Output(tmp_path / "out", 8, overwrite=True))
    with pytest.raises(UserError):
        import_folder(tmp_path / "src", Output(tmp_path / "new", 8))
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    assert len(open_split(tmp_path / "out", "train")) > 0


def test_the_manifest_lists_what_was_skipped(src):
    add(src, "bad.png", data=b"")
    report = import_folder(src, Output(src.parent / "out", 8), budget=0.5)
    info = report.manifest.info
    assert info["skipped"] == [["bad.png", "the file is empty"]]
    assert info["num_skipped"] == 1 and info["changed"] == {}


def test_what_is_changed_is_counted(src):
    add(src, "long.png", "w" * 2001 + "\nshort\ue000\n")
    add(src, "strip.png", data=png(size=(40, 9)))
    add(src, "tiny.png", data=png(size=(4, 4)))
    add(src, "broken.png", "w" * 3000, data=b"")
    (src / "README.txt").write_text("no image has this name")
    (src / "good0.caption").write_text("beside good0.txt")
    (src / "list.jsonl").write_text('{"file_name": "good1.png", "text": "a dog"}\n')
    (src / "more.tar.gz").write_bytes(b"no archive that is read")
    os.symlink("nowhere", src / "gone.png")
    members = [("a.png", b""), ("a.png", png()), ("a.txt", b"a cat")]
    add_tar(src / "x.tar", [*members, ("a.caption", b"a dog")])
    with tarfile.open(src / "x.tar", "a") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        tar.addfile(link)
    report = import_folder(src, Output(src.parent / "out", 8), budget=0.5)
    assert report.manifest.info["changed"] == {
        captions.CUT: 1,
        captions.NO_TEXT: 1,
        images.CROPPED: 1,
        images.ENLARGED: 1,
        folder_entries.ALONE: 1,
        folder_entries.BESIDE: 2,
        folder_entries.UNREAD: 3,
        folder_entries.LINKS: 1,
        folder_entries.REPLACED: 1,
    }


def test_a_caption_file_beside_a_table_is_counted(src):
    (src / "table.csv").write_text("file,caption\ngood1.png,a dog\n")
    report = import_folder(src, Output(src.parent / "out", 8))
    assert report.manifest.info["changed"] == {folder_entries.BESIDE: 1}


def test_no_image_is_overlooked(src):
    """Formats that are not read are named; names of any case and ending are found."""
    add(src, "b.jfif", data=jpeg())
    add(src, "b2.jpg_large", data=jpeg())
    (src / "c.PNG").write_bytes(png())
    (src / "c.TXT").write_bytes(b"a cat")
    (src / "d.png").write_bytes(png())
    (src / "d.caption").write_bytes(b"a dog")
    unread = [f"x.{kind}" for kind in ("avif", "heic", "jxl", "odd")]
    for name in unread:
        add(src, name, data=b"nothing known")
    add(src.parent / "elsewhere", "e.png")
    os.symlink(src.parent / "elsewhere", src / "link")
    add_tar(src / "x.tar", [("a.png", png()), ("a.jpg", jpeg()), ("a.txt", b"a cat")])
    found, skipped = imported(src)
    assert {"b.jfif", "b2.jpg_large", "c.PNG", "x.tar/a.png", "x.tar/a.jpg"} < set(
        found
    )
    assert found["d.png"] == ["a dog"]
    assert skipped.pop("link") == "a link to a folder"
    assert skipped.keys() == set(unread)
    assert all("of no known format" in reason for reason in skipped.values())


def test_nothing_but_broken_pictures_is_no_data_set(tmp_path):
    add(tmp_path / "src", "a.png", data=b"")
    with pytest.raises(UserError, match="1 of 1 entries are broken"):
        imported(tmp_path / "src", budget=1.0)
    assert not (tmp_path / "out").exists()


def test_the_split_follows_the_name(tmp_path):
    for i in range(60):
        add(tmp_path / "src", f"{i}.png")
    splits = []
    for _ in range(2):
        imported(tmp_path / "src", val_fraction=0.3, overwrite=True)
        source = open_split(tmp_path / "out", "val")
        splits.append({source[i].id for i in range(len(source))})
        for name in ("0.png", "1.png"):
            (tmp_path / "src" / name).unlink(missing_ok=True)
    assert 6 <= len(splits[0]) <= 30
    assert splits[1] == splits[0] - {"0.png", "1.png"}


def test_archives_with_strange_members(src):
    with tarfile.open(src / "evil.tar", "w") as tar:

        def member(name, data=b"", **fields):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        climbing = ("../up", "/root", "a/../../b", "C:\\c")
        for name in climbing:
            member(f"{name}.png", png())
            member(f"{name}.txt", b"climbs")
        member("l.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        member("l.txt", b"link")
        member("h.png", type=tarfile.LNKTYPE, linkname="../up.png")
        member("d.png", type=tarfile.CHRTYPE)
        member(".", type=tarfile.DIRTYPE)
        member("twice.png", b"")
        member("twice.png", png())
        member("twice.txt", b"last wins")
        member("TWICE.png", png())
        member("TWICE.txt", b"other case")
        member("bomb.png", b"")
        member("bomb.txt", b"zeros")
    before = {p for p in src.parent.rglob("*")}
    found, skipped = imported(src)
    assert skipped == {
        "evil.tar/l": "no image among its members",
        "evil.tar/bomb": "the file is empty",
    }
    names = {f"evil.tar/{n}" for n in (*climbing, "twice", "TWICE")}
    assert {name for name in found if "tar" in name} == names
    assert found["evil.tar/twice"] == ["last wins"]
    made = {p.relative_to(src.parent).parts[0] for p in src.parent.rglob("*")}
    assert made == {p.relative_to(src.parent).parts[0] for p in before} | {"out"}


def test_a_member_that_claims_too_much(src):
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 40
    (src / "huge.tar").write_bytes(info.tobuf() + png())
    _, skipped = imported(src)
    assert "damaged" in skipped["huge.tar"] or "larger" in skipped["huge.tar/a"]


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"<html>" * 200, png() * 9])
def test_files_that_are_no_archive(src, data):
    (src / "x.tar").write_bytes(data)
    found, skipped = imported(src)
    assert len(found) == 3
    assert "the archive is damaged" in skipped["x.tar"]


@pytest.mark.parametrize("blocks", [8, 9, 10, 11, 12])
def test_an_archive_cut_short(src, blocks):
    """Also between two members, where what is left is a sound archive."""
    members = []
    for i in range(4):
        members += [(f"{i}.png", png()), (f"{i}.txt", b"a cat")]
    add_tar(src / "x.tar", members)
    data = (src / "x.tar").read_bytes()
    (src / "x.tar").write_bytes(data[: 512 * blocks])
    found, skipped = imported(src)
    assert {"x.tar/0", "x.tar/1"} <= found.keys()
    assert skipped["x.tar"].startswith("the archive is damaged")
    assert all(name.startswith("x.tar") for name in skipped)


def test_archives_that_were_joined(src):
    """What follows the end of the first is said; zeros there are padding."""
    for name in "xy":
        members = [(f"{name}.png", png()), (f"{name}.txt", b"a cat")]
        add_tar(src / f"{name}.tar", members)
    second = (src / "y.tar").read_bytes()
    with (src / "x.tar").open("ab") as file:
        file.write(bytes(5120) + second)
    (src / "y.tar").write_bytes(second + bytes(1 << 21))
    found, skipped = imported(src)
    assert {"x.tar/x", "y.tar/y"} < found.keys()
    reason = f"the archive is damaged: {len(second)} bytes follow its end"
    assert skipped == {"x.tar": f"{reason}, as of a second archive"}


@pytest.mark.parametrize(
    "headers",
    [{"size": "-1024"}, {"size": "9" * 20}, {"GNU.sparse.map": "1,x", "size": "1"}],
    ids=str,
)
def test_members_that_claim_odd_sizes(src, headers):
    info = tarfile.TarInfo("a.png")
    info.pax_headers = headers
    data = info.tobuf(tarfile.PAX_FORMAT)
    (src / "x.tar").write_bytes(data + png() + bytes(4096))
    found, skipped = imported(src)
    assert len(found) == 3 and "x.tar" in skipped
    assert skipped.keys() <= {"x.tar", "x.tar/a"}


def test_a_member_of_negative_size(src):
    """In the base of 256 that GNU writes; the reader would go back and loop."""
    info = tarfile.TarInfo("a.png")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-512).to_bytes(12, "big", signed=True)
    total = 256 + sum(header[:148]) + sum(header[156:512])
    header[148:156] = b"%06o\0 " % total
    (src / "x.tar").write_bytes(bytes(header) + bytes(2048))
    _, skipped = imported(src)
    assert skipped == {"x.tar": "the archive is damaged: a member of negative size"}


def test_sources_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zip").write_bytes(b"PK")
    for name, message in (
        ("empty", "no captioned images"),
        ("x.zip", "no folder, .tar"),
        ("nowhere", "no folder, .tar"),
    ):
        with pytest.raises(UserError, match=message):
            import_folder(tmp_path / name, Output(tmp_path / "out", 8))


def test_drawings_are_named_not_overlooked(src):
    add(src, "x.svg", data=b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    _, skipped = imported(src)
    assert "it is an SVG drawing" in skipped["x.svg"]


def test_what_filters_ask_for_is_noted(src):
    """The size before cropping, turned as EXIF says, and the source of a table."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # A quarter turn.
    Image.new("RGB", (12, 9)).save(buffer, "JPEG", exif=exif)
    add(src, "turned.jpg", data=buffer.getvalue())
    add(src, "listed.png", captions=None)
    row = {"file_name": "listed.png", "text": "a cat", "source": "the\nweb \ud800"}
    (src / "metadata.jsonl").write_text(json.dumps(row))
    imported(src, val_fraction=0)
    source = open_split(src.parent / "out", "train")
    found = {source[i].id: source[i].meta for i in range(len(source))}
    assert found["good0.png"] == {"width": "12", "height": "9"}
    assert found["turned.jpg"] == {"width": "9", "height": "12"}
    assert found["listed.png"] == {"width": "12", "height": "9", "source": "the web"}
