"""What the files of a training run say, read in one pass and in bounded memory."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from cogjax.config import load_json
from cogjax.errors import UserError, shown
from cogjax.evaluate.report.curves import Curve
from cogjax.train.goodput import ACTIVITIES
from cogjax.train.history import read_sessions
from cogjax.train.metrics import METRICS, SAMPLES, png_note, read_rows

_SECONDS = "seconds/"
# Rows with these names are events, not curves.
_EVENTS = {
    "spike": "the loss was {:.3g} times the running median",
    "rolled_back_from": "gone back here from step {:.0f}",
}
_NO_IMAGE = OSError, ValueError, SyntaxError, Image.DecompressionBombError
_MOST_SECONDS = 1e9  # of an activity between two rows
_NO_CURVES = {"step", "time", "loss_at_spike", *_EVENTS}
_MOST = 2**53  # steps of a run, images of a batch
_MOST_CURVES, _MOST_EVENTS, _MOST_SESSIONS = 200, 50, 20


@dataclass
class RunFiles:
    """A run as its folder shows it.

    curves: by the metric's name. seconds: by activity. events: (step, what happened).
    broken: lines that are no rows. step, time: of the last row; time is that of the
    clock, in seconds. sessions: the last ones, of `num_sessions`.
    """

    workdir: Path
    config: dict[str, Any]
    curves: dict[str, Curve] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(ACTIVITIES, 0.0)
    )
    events: list[tuple[int, str]] = field(default_factory=list)
    broken: int = 0
    step: int = 0
    time: float = 0.0
    sessions: list[dict[str, Any]] = field(default_factory=list)
    num_sessions: int = 0

    def _add(self, row: dict[str, Any]) -> None:
        self.step, self.time = row["step"], row["time"]
        for name, value in row.items():
            if name.startswith(_SECONDS):
                kind = name.removeprefix(_SECONDS)
                known = self.seconds.get(kind, 0.0)
                self.seconds[kind] = known + (
                    value if 0 <= value <= _MOST_SECONDS else 0.0
                )
            elif name in _EVENTS:
                self.events.append((row["step"], _EVENTS[name].format(value)))
                del self.events[:-_MOST_EVENTS]
            elif name in self.curves or (
                name not in _NO_CURVES and len(self.curves) < _MOST_CURVES
            ):
                self.curves.setdefault(name, Curve()).add(row["step"], value)


def read_run(workdir: Path) -> RunFiles:
    """Reads a run that goes on, has ended or was broken off.

    UserError for a folder that is no run's, and for files that cannot be read.
    """
    try:
        return _read(workdir)
    except OSError as error:
        what = error.filename or workdir
        raise UserError(f"cannot read {what}: {error.strerror or error}") from error


def _read(workdir: Path) -> RunFiles:
    if not workdir.is_dir():
        raise UserError(f"there is no folder {workdir}: give the --workdir of a run")
    if not (workdir / "config.json").is_file():
        raise UserError(
            f"{workdir} is no training run: it has no config.json; give the --workdir "
            "of `cogjax train`"
        )
    found = RunFiles(workdir, load_json(workdir / "config.json"))
    if "task" not in found.config:
        raise UserError(
            f"{workdir} is no training run, its config.json names no task; give the "
            "--workdir of `cogjax train`"
        )
    _check_length(workdir / "config.json", found.config)
    for row in read_rows(workdir / METRICS):
        if row:
            found._add(row)
        else:
            found.broken += 1
    for session in read_sessions(workdir):
        found.num_sessions += 1
        # One more than is shown: what the first of those differs from.
        found.sessions = [*found.sessions[-_MOST_SESSIONS:], session]
    return found


def _check_length(path: Path, config: dict[str, Any]) -> None:
    """UserError unless what is said of the run's steps are numbers."""
    train = config.setdefault("train", {})
    if not isinstance(train, dict):
        raise UserError(f"{path}: 'train' is {shown(train)}, expected keys and values")
    for name in ("steps", "batch_size"):
        value = train.get(name, 1)
        if type(value) is not int or not 1 <= value <= _MOST:
            raise UserError(
                f"{path}: 'train.{name}' is {shown(value)}, expected 1 to {_MOST}"
            )


@dataclass(frozen=True)
class Sheet:
    """An image of the run's folder `samples`.

    data: bytes of a PNG or JPEG file. texts: what it shows, if that is known.
    """

    step: int
    data: bytes
    texts: list[str]


_LARGE, _SHRUNK_TO = 500_000, 1200  # bytes of a file, pixels of its longer side


def read_sheets(workdir: Path, most: int = 8) -> dict[str, list[Sheet]]:
    """By name, the newest first: first, last and others between, evenly.

    Large ones are shrunk. Files that are no images are left out.
    """
    names: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted((workdir / SAMPLES).glob("*-*.png")):
        number, _, name = path.stem.partition("-")
        if number.isdecimal():
            names.setdefault(name, []).append((int(number), path))
    found = {}
    for name, files in names.items():
        files.sort()
        last = len(files) - 1
        picks = {round(i * last / max(most - 1, 1)) for i in range(most)}
        sheets = (_sheet(*files[i]) for i in sorted(picks, reverse=True))
        found[name] = [sheet for sheet in sheets if sheet]
    return found


BOARD = "codebook.png"


def read_board(workdir: Path) -> tuple[bytes, dict[str, Any]] | None:
    """(PNG of the codes, what `stages/codebook_board.py` has noted); None without."""
    try:
        data = (workdir / BOARD).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            note = png_note(image)
    except _NO_IMAGE:
        return None
    return (data, note) if isinstance(note, dict) else None


def _sheet(step: int, path: Path) -> Sheet | None:
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            note = png_note(image)
            data = data if len(data) <= _LARGE else _shrunk(image)
    except _NO_IMAGE:
        return None
    texts = note if isinstance(note, list) else []
    return Sheet(step, data, [str(text) for text in texts])


def _shrunk(image: Image.Image) -> bytes:
    image = image.convert("RGB")
    image.thumbnail((_SHRUNK_TO, _SHRUNK_TO))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
