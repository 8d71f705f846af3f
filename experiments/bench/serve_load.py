"""Many clients before `cogjax serve`: what comes back, how soon, and its memory.

    python experiments/bench/serve_load.py --clients 64 --seconds 600

It starts a server of its own with `--model` and ends it with SIGTERM. Each client posts
a request for one image, watches its events and fetches the image; where the queue is
full it tries again as it was told. One of eight leaves in the middle. Printed are the
requests that were done, refused for the time being and left, those that were lost (no
image of a request that was taken, or an answer of 5xx but 503), the times until the
first preview and the image, and the server's memory, MiB, at the start and at the end.
"""

import argparse
import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np


class Load:
    """Clients of one server, and what they have seen."""

    def __init__(self, port: int, end: float):
        self.port, self.end = port, end
        self.count: Counter[str] = Counter()
        self.first: list[float] = []  # seconds until a preview
        self.whole: list[float] = []  # seconds until the image

    async def client(self, number: int) -> None:
        """Asks until the end."""
        chance = random.Random(number)
        while time.monotonic() < self.end:
            try:
                await self._request(chance)
            except (
                OSError,
                EOFError,
                ValueError,
                asyncio.IncompleteReadError,
            ) as error:
                self.count[f"lost: {error}"[:80]] += 1

    async def _request(self, chance: random.Random) -> None:
        start = time.monotonic()
        body = {"prompts": "a red apple, 3D", "num_images": 1}
        body["seed"] = chance.randrange(2**32)
        status, answer = await self._ask("POST", "/api/requests", body)
        if status == 503:
            self.count["refused for now"] += 1
            await asyncio.sleep(chance.uniform(1, 3))
            return
        if status != 202:
            self.count[f"lost: {status}"] += 1
            return
        name = json.loads(answer)["id"]
        leaves = chance.random() < 1 / 8
        found = await self._events(name, start, leaves)
        if leaves:
            self.count["left"] += 1
            return
        status, image = await self._ask("GET", f"/api/requests/{name}/images/0.png")
        done = found.get("state") == "done" and image.startswith(b"\x89PNG")
        self.count["done" if done else f"lost: {found.get('error')}"] += 1
        self.whole.append(time.monotonic() - start)

    async def _events(self, name: str, start: float, leaves: bool) -> dict:
        """The last event of a request, or the first if this client leaves."""
        reader, writer = await self._send("GET", f"/api/requests/{name}/events")
        found, seen = {}, False
        try:
            async for line in reader:
                if not line.startswith(b"data: "):
                    continue
                found = json.loads(line[6:])
                if found["images"] and not seen:
                    seen = True
                    self.first.append(time.monotonic() - start)
                if leaves or found["state"] not in ("waiting", "running"):
                    return found
        finally:
            writer.close()
        return found

    async def _ask(self, method: str, path: str, body=None) -> tuple[int, bytes]:
        reader, writer = await self._send(method, path, body)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            return int(head.split()[1]), await reader.read()
        finally:
            writer.close()

    async def _send(self, method: str, path: str, body=None):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await writer.drain()
        return reader, writer


def _memory(pid: int) -> int:
    """MiB that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) >> 10


async def _run(load: Load, clients: int) -> None:
    await asyncio.gather(*(load.client(i) for i in range(clients)))


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--model", default="emoji")
    args = parser.parse_args()
    words = [sys.executable, "-m", "cogjax.cli", "serve", "--port", "0"]
    words += ["--model", args.model]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+) ", server.stdout.readline())[1])
        # One request first: what it compiles is no leak.
        asyncio.run(_run(Load(port, time.monotonic() + 1), 1))
        before = _memory(server.pid)
        load = Load(port, time.monotonic() + args.seconds)
        asyncio.run(_run(load, args.clients))
        after, start = _memory(server.pid), time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        ended = time.monotonic() - start
    finally:
        server.kill()
    times = {"first preview": load.first, "image": load.whole}
    found = {
        name: dict(
            zip(
                ("median", "95 %"),
                np.percentile(x, (50, 95)).round(2).tolist(),
                strict=True,
            )
        )
        for name, x in times.items()
        if x
    }
    memory = {"MiB before": before, "MiB after": after}
    print(
        json.dumps({**load.count, **found, **memory, "seconds to end": round(ended, 2)})
    )


if __name__ == "__main__":
    main()
