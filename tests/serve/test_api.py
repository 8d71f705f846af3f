"""The JSON API over HTTP: what each task gives, and what is refused."""

import base64
import contextlib
import hashlib
import io
import json
import socket
import time

import numpy as np
import pytest
from PIL import Image

from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.serve.abilities import Shelf
from cogjax.serve.body import work_of
from cogjax.serve.job import Limits

PROMPT = "a red apple"


def in_base64(pixels):
    return base64.b64encode(encode_png(pixels)).decode()


@pytest.fixture(scope="session")
def picture(nano_model):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (16, 16, 3), np.uint8)


def images_of(client, found):
    """Pixels [n, y, x, 3] of a finished request, and the last one's recipe."""
    files = [
        client.ask("GET", f"/api/requests/{found['id']}/images/{i}.png")[1]
        for i in range(found["images"])
    ]
    images = [Image.open(io.BytesIO(file)) for file in files]
    return np.stack(images), json.loads(images[-1].text["cogjax"])


def test_images_are_those_of_python_and_hold_their_recipe(client, nano_model):
    settings = {"num_images": 4, "seed": 7, "temperature": 0.5}
    found = client.done(model="nano", prompts=PROMPT, **settings)
    assert found["state"] == "done" and found["error"] == ""
    wanted = nano_model.generate(PROMPT, **settings)
    pixels, recipe = images_of(client, found)
    np.testing.assert_array_equal(pixels, wanted.pixels[0])
    assert recipe["codes"] == wanted.codes[0, 3].tolist()
    own = {"prompt": PROMPT, "index": 3, "score": None}
    assert recipe | own == recipe and found["made"][3] == own
    assert recipe["cogjax"] == "1.2.3" and recipe["seed"] == found["seed"] == 7
    loaded = {"name": "nano", "weights": "float32", "card": nano_model.card}
    assert recipe["model"] == loaded
    assert recipe["settings"] == found["settings"]
    assert found["settings"]["temperature"] == 0.5


def test_the_best_of_some_candidates(client, nano_model):
    settings = {"num_images": 4, "rerank": 4, "seed": 1}
    found = client.done(prompts=[PROMPT], **settings)
    wanted = nano_model.generate(PROMPT, **settings)
    assert found["made"][0]["score"] == pytest.approx(float(wanted.scores[0, 0]))
    found = client.done(prompts="red", rerank_by="clip", **settings)
    assert found["settings"]["rerank_by"] == "clip"
    assert 0 < found["made"][0]["score"] < 2


def test_what_is_outside_of_a_hole_stays(client, picture):
    mask = np.zeros_like(picture)
    mask[8:, 8:] = 255
    given = {"image": in_base64(picture), "mask": in_base64(mask)}
    found = client.done(prompts=PROMPT, num_images=4, fillings=1, **given)
    [pixels, *_], recipe = images_of(client, found)
    file = base64.b64decode(given["image"])
    assert recipe["settings"]["image"] == hashlib.sha256(file).hexdigest()
    np.testing.assert_array_equal(pixels[:4, :4], picture[:4, :4])
    assert (pixels[8:, 8:] != picture[8:, 8:]).any()


def test_the_model_reads_and_scores(client, nano_model, toy_clip, picture):
    given = {"image": f"data:image/png;base64,{in_base64(picture)}"}
    found = client.done(task="caption", model="nano", beams=2, **given)
    assert [found["caption"]] == nano_model.caption([picture], beams=2)
    texts = ["blue", "a red zebra"]
    for name, model in {"nano": nano_model, "clip": toy_clip}.items():
        found = client.done(task="score", model=name, texts=texts, **given)["scores"]
        wanted = dict(zip(texts, model.score([picture] * 2, texts), strict=True))
        assert {x["text"]: x["score"] for x in found} == pytest.approx(wanted)
        assert found[0]["score"] < found[1]["score"]


def events_of(answer):
    """What Server-Sent Events say, as they come."""
    for line in answer:
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


def test_events_tell_all_that_happens_and_end(client):
    name = client.post(prompts=PROMPT, num_images=2)
    with contextlib.closing(client.connect()) as connection:
        connection.request("GET", f"/api/requests/{name}/events")
        answer = connection.getresponse()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        told = list(events_of(answer))
    assert told[-1]["state"] == "done" and told[-1]["images"] == 2
    versions = [each["version"] for each in told]
    assert versions == sorted(versions) and all(each["id"] == name for each in told)


def test_models_say_what_they_can_do(client):
    found = client.ask("GET", "/api/models")[1]
    nano, clip = found["models"]
    assert found["limits"] == {"images": 16}
    assert (nano["name"], nano["tasks"]) == ("nano", ["generate", "caption", "score"])
    there = {"temperature", "guidance", "negative", "rerank", "mask", "extend", "vary"}
    assert there <= set(nano["settings"])
    assert not {"strength", "steps", "method", "gamma"} & set(nano["settings"])
    assert nano["defaults"]["temperature"] == 1.0 and nano["styles"] == []
    assert (clip["name"], clip["tasks"]) == ("clip", ["score", "judge"])
    assert clip["settings"] == []


BAD = {
    "prompt 1 is empty": {"prompts": " "},
    "there is no prompt": {},
    "at most 4096": {"prompts": "x" * 100_000},
    "prompt 1 is not UTF-8 text: it has NUL": {"prompts": "a\0b"},
    "prompt 1 is not valid UTF-8": {"prompts": "a\ud800"},
    "prompts is 5": {"prompts": 5},
    "prompt 2 is None": {"prompts": ["a", None]},
    "num_images is 0": {"prompts": "a", "num_images": 0},
    "num_images is -1": {"prompts": "a", "num_images": -1},
    "num_images is 1000000": {"prompts": "a", "num_images": 10**6},
    "17 images or candidates": {"prompts": "a", "rerank": 17},
    "20 images or candidates": {"prompts": ["a"] * 5},
    "seed is 4294967296": {"prompts": "a", "seed": 2**32},
    "seed is 1.5": {"prompts": "a", "seed": 1.5},
    "seed is True": {"prompts": "a", "seed": True},
    "temperature is -1": {"prompts": "a", "temperature": -1},
    "guidance is 'x'": {"prompts": "a", "guidance": "x"},
    "steps is for a masked model": {"prompts": "a", "steps": 4},
    "strength is for a cascade": {"prompts": "a", "strength": 0.5, "image": "PNG"},
    "no setting 'promtps'": {"promtps": "a"},
    "no setting 'weights'": {"prompts": "a", "weights": "int8"},
    "did you mean 'nano'": {"prompts": "a", "model": "nan"},
    "there is no model '../nano'": {"prompts": "a", "model": "../nano"},
    "there is no model ['nano']": {"prompts": "a", "model": ["nano"]},
    "model clip does not generate: choose nano": {"prompts": "a", "model": "clip"},
    "model nano does not judge: choose clip": {"prompts": "a", "rerank_by": "nano"},
    "rerank_by chooses among": {"prompts": "a", "rerank_by": "clip"},
    "model nano does not ask, nor does": {"task": "ask", "image": "PNG"},
    "task is 'delete'": {"task": "delete"},
    "image is not base64, and no file": {"prompts": "a", "image": "/etc/passwd"},
    "image: not a readable image": {"prompts": "a", "image": "YWJj"},
    "image: the file is empty": {"task": "caption", "image": ""},
    "image is 5": {"task": "caption", "image": 5},
    "there is no image": {"task": "caption"},
    "mask is not base64": {"prompts": "a", "image": "PNG", "mask": "m.png"},
    "the mask is 20 x 20 pixels and": {"prompts": "a", "image": "PNG", "mask": "BIG"},
    "image: 2049 x 2049 pixels": {"prompts": "a", "image": "HUGE", "vary": 0.5},
    "keep has rows of several": {"prompts": "a", "image": "PNG", "keep": [[1], []]},
    "keep is int64": {"prompts": "a", "image": "PNG", "keep": [[1]]},
    "extend has no side 'up'": {"prompts": "a", "image": "PNG", "extend": {"up": 1}},
    "extend is [1]": {"prompts": "a", "image": "PNG", "extend": [1]},
    "style is for a model of pairs": {"image": "PNG", "style": "3D"},
    "caption has no setting 'beam'": {"task": "caption", "image": "PNG", "beam": 2},
    "language is 'fr'": {"task": "caption", "image": "PNG", "language": "fr"},
    "beams is 65": {"task": "caption", "image": "PNG", "beams": 65},
    "texts is 'a'": {"task": "score", "image": "PNG", "texts": "a"},
    "text 1 is empty": {"task": "score", "image": "PNG", "texts": [""]},
    "score has no setting 'seed'": {
        "task": "score",
        "image": "PNG",
        "texts": ["a"],
        "seed": 1,
    },
}


@pytest.mark.parametrize("words", BAD)
def test_a_mistake_is_refused_in_one_line(client, picture, words):
    pixels = {
        "PNG": picture,
        "BIG": np.zeros((20, 20, 3), np.uint8),
        "HUGE": np.zeros((2049, 2049, 3), np.uint8),
    }
    fields = {
        name: in_base64(pixels[x]) if isinstance(x, str) and x in pixels else x
        for name, x in BAD[words].items()
    }
    assert words in client.refused(**fields)


def test_no_value_of_any_setting_breaks_the_server(nano_model, toy_clip, picture):
    names = (
        "prompts num_images seed temperature top_k top_p guidance rerank image keep "
        "mask extend vary paste fillings negative strength speculate steps method "
        "choice_temperature gamma percentile augmentation decode style rerank_by "
        "model task language beams length_penalty texts question"
    )
    values = [[], {}, "", "x", -1, 10**400, 1e308, [[]], {"a": {}}, [None], False, None]
    given = {"image": in_base64(picture), "prompts": "a"}
    shelf = Shelf({"nano": nano_model, "clip": toy_clip}, "1", {})
    for task in ("generate", "caption", "score"):
        for name in names.split():
            for value in values:
                with contextlib.suppress(UserError):
                    work_of({"task": task} | given | {name: value}, shelf, Limits())


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{", {}, 400, "the body is not JSON"),
        (b'{"a": NaN}', {}, 400, "NaN is no number"),
        (b"\xff", {}, 400, "the body is not JSON"),
        (b"[" * 200_000, {}, 400, "nested too deeply"),
        (b"9" * 10_000, {}, 400, "the body is not JSON"),
        (b"[]", {}, 400, "the request is [], expected an object"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "must be application/json"),
        (b" " * (16 << 20) + b"{}", {}, 413, "more than 16 MiB"),
        (b"{}", {"Content-Length": str(50 << 20)}, 413, "more than 16 MiB"),
        (b"{}", {"Origin": "http://evil.example"}, 403, "a page of another server"),
        (b"{}", {"Origin": "null"}, 403, "a page of another server"),
        (b"{}", {"Host": "evil.example"}, 403, "not called 'evil.example'"),
        (b"{}", {"Host": "127.0.0.1.evil.example:80"}, 403, "is not called"),
    ],
)
def test_what_is_no_request_is_refused(client, body, headers, status, words):
    found = client.ask("POST", "/api/requests", body, **headers)
    assert found[0] == status and words in found[1]["error"]


@pytest.mark.parametrize(
    "host", ["localhost", "Cogjax.test:80", "[::1]:8000", "10.0.0.9"]
)
def test_this_server_is_known_by_number_and_name(client, host):
    assert client.ask("GET", "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/requests/none", 404),
        ("GET", "/api/requests/none/events", 404),
        ("DELETE", "/api/requests/none", 404),
        ("GET", "/api/requests", 405),
        ("PUT", "/", 405),
        ("GET", "/app.py", 404),
        ("GET", "/../job.py", 404),
        ("GET", "/..%2fjob.py", 404),
        ("GET", "/api/requests/x/images/..%2f..%2f0.png", 404),
    ],
)
def test_other_paths_lead_nowhere(client, method, path, status):
    found = client.ask(method, path)
    assert found[0] == status and list(found[1]) == ["error"]


def test_pages_come_with_headers_that_keep_others_out(client):
    _, found, headers = client.ask("GET", "/")
    assert found.startswith(b"<!doctype html>")
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


SLOW = {"prompts": "slowly", "num_images": 2}


def test_a_request_is_cancelled(painter):
    first, second = painter.post(**SLOW), painter.post(**SLOW)
    found = painter.ask("DELETE", f"/api/requests/{second}")[1]
    assert (found["state"], found["error"]) == ("cancelled", "cancelled")
    painter.ask("DELETE", f"/api/requests/{first}")
    status, _, headers = painter.ask("GET", f"/api/requests/{first}/events")
    assert status == 200  # They end, though the images were not finished.
    assert painter.ask("GET", f"/api/requests/{first}")[1]["state"] == "cancelled"
    for name in ("99.png", "0.jpg"):
        found = painter.ask("GET", f"/api/requests/{first}/images/{name}")
        assert found[:2] == (204, b"")


def test_a_preview_is_shown_on_the_way(painter):
    name = painter.post(**SLOW)
    with contextlib.closing(painter.connect()) as connection:
        connection.request("GET", f"/api/requests/{name}/events")
        told = events_of(connection.getresponse())
        found = next(each for each in told if each["images"])
        assert (found["state"], found["images"]) == ("running", 2)
        path = f"/api/requests/{name}/images/1.png"
        image = Image.open(io.BytesIO(painter.ask("GET", path)[1]))
        assert image.size == (16, 16) and image.getpixel((0, 15)) == (224,) * 3
        painter.ask("DELETE", f"/api/requests/{name}")
        assert list(told)[-1]["state"] == "cancelled"


def test_a_full_queue_says_when_to_come_again(painter):
    names = [painter.post(**SLOW)]
    while painter.ask("GET", f"/api/requests/{names[0]}")[1]["state"] == "waiting":
        pass
    names += [painter.post(**SLOW) for _ in range(3)]
    status, found, headers = painter.ask("POST", "/api/requests", SLOW)
    assert status == 503 and "3 requests wait already" in found["error"]
    assert headers["Retry-After"] == "2"
    places = [painter.ask("GET", f"/api/requests/{x}")[1]["place"] for x in names]
    assert places == [0, 1, 2, 3]
    for name in names:
        painter.ask("DELETE", f"/api/requests/{name}")


def test_a_client_that_vanishes_takes_its_work_along(painter, monkeypatch):
    monkeypatch.setattr("cogjax.serve.job.LEAVING", 0.0)
    name = painter.post(**SLOW)
    line = f"GET /api/requests/{name}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", painter.port), timeout=10) as gone:
        gone.sendall(line.encode())
        found = b""
        while b"data: " not in found:
            found += gone.recv(4096)
    painter.done(prompts="next")  # The worker has come to it.
    found = painter.ask("GET", f"/api/requests/{name}")[1]
    assert found["error"] == "nobody asked for it any more"


def test_half_a_request_harms_nobody(client):
    head = "POST /api/requests HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
    head += "Content-Type: application/json\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", client.port)) as gone:
        gone.sendall(head.encode())
    assert client.ask("GET", "/api/models")[0] == 200


@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
def test_a_head_that_comes_slowly_is_not_waited_for(painter, monkeypatch, before):
    """Neither the first of a connection nor one behind a request that was answered."""
    monkeypatch.setattr("cogjax.serve.server.HEAD_SECONDS", 0.3)
    whole = b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", painter.port), timeout=20) as slow:
        for _ in range(before):
            slow.sendall(whole)
            assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200")
        slow.sendall(whole[:20])
        start = time.monotonic()
        while slow.recv(1 << 16):
            pass
    assert time.monotonic() - start < 4  # An idle connection is kept for five seconds.
