"""`cogjax serve` as a command: one line for a mistake, and an end within seconds."""

import contextlib
import http.client
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

import cogjax
from cogjax import cli


def said(capsys, *words):
    """What stderr has of a command that fails."""
    assert cli.main(["serve", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()[-1:]
    return line


def test_an_address_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = said(capsys, "--port", port)
    assert f"cannot listen at 127.0.0.1 port {port}: Address already in use" in line
    line = said(capsys, "--port", "0", "--host", "nowhere.invalid")
    assert "cannot listen at nowhere.invalid port 0" in line


def test_what_it_needs_is_named(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'cogjax[serve]'" in said(capsys)


def test_models_have_names_of_their_own_and_do_something(capsys, monkeypatch):
    monkeypatch.setitem(vars(cogjax), "load", lambda *args, **settings: object())
    words = ["--port", "0", "--model", "a/export"]
    line = said(capsys, *words, "--model", "b/export/")
    assert "two models are called 'export'" in line
    assert "model export neither draws nor reads" in said(capsys, *words)


@pytest.mark.parametrize("when", ["compiling", "waiting"])
def test_a_signal_ends_it_in_time(nano_folder, when):
    words = [sys.executable, "-m", "cogjax.cli", "serve", "--port", "0"]
    words += ["--model", str(nano_folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    server = subprocess.Popen(words, **pipes)
    try:
        port = int(re.search(r"http://127.0.0.1:(\d+) ", server.stdout.readline())[1])
        found = asked(port, "POST", "/api/requests", {"prompts": "a", "num_images": 16})
        while when == "waiting" and found["state"] == "waiting":
            found = asked(port, "GET", f"/api/requests/{found['id']}")
        start = time.monotonic()
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)
        assert time.monotonic() - start < 10
        assert server.returncode == -signal.SIGTERM and "Traceback" not in errors
    finally:
        server.kill()


def asked(port, method, path, body=None):
    """The JSON value of an answer."""
    headers = {"Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body and json.dumps(body), headers)
        return json.loads(connection.getresponse().read())
