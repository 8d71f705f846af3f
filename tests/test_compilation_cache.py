"""Where compiled programs are kept, each case in a process of its own."""

import os
import subprocess
import sys

# What `enable` leaves to JAX before it is imported, and JAX's own settings after.
SAY = """
import os, sys
names = ("compilation_cache_dir", "compilation_cache_max_size")
names += ("persistent_cache_min_compile_time_secs",)
def say():
    jax = sys.modules.get("jax")
    if jax:
        return [getattr(jax.config, f"jax_{name}") for name in names]
    return [os.environ.get(f"JAX_{name.upper()}") for name in names]
from cogjax import compilation_cache
"""
ENABLE = """
compilation_cache.enable()
assert "jax" not in sys.modules
print(*say())
"""
COMPILE = """
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: x + 1)(1))
"""
# All of it after JAX was imported, in one process.
LATE = """
import jax
def late(folder=None):
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.enable()
    print(*say())
late()
late("mine")
os.environ["XDG_CACHE_HOME"] = os.environ["HOME"] + "/other"
late()
"""

# As a full disk leaves it: JAX never writes a file again that is there.
DAMAGED = """
import jax
from pathlib import Path
from cogjax import cli
jax.config.update("jax_compilation_cache_dir", os.environ["HOME"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
def double(x):
    return 2 * x
jax.jit(double)(1)
for path in Path.home().glob("*double*-cache"):
    path.write_bytes(path.read_bytes()[:9])
jax.clear_caches()
sys.stderr = sys.stdout
with cli._notices():
    assert jax.jit(double)(1) == 2
"""


def run(home, code=ENABLE, **variables):
    """Lines of words that a program prints, with `home` as the user's."""
    env = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    env |= {"HOME": str(home), "PYTHONWARNINGS": "error"} | variables
    command = [sys.executable, "-c", SAY + code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


def check(words, home):
    """Words of a bounded folder of the user."""
    folder, size, least = words
    assert folder.startswith(f"{home}/.cache/cogjax/xla/")
    assert int(size) == 2**30 and float(least) <= 0.1


def test_a_bounded_folder_of_the_user(tmp_path):
    words, _ = run(tmp_path, ENABLE + COMPILE)
    check(words, tmp_path)
    assert [name for name in os.listdir(words[0]) if name.endswith("-cache")]
    ((elsewhere, *_),) = run(tmp_path, XDG_CACHE_HOME=str(tmp_path / "other"))
    assert elsewhere.startswith(f"{tmp_path}/other/cogjax/xla/")


def test_after_jax_was_imported(tmp_path):
    words, mine, elsewhere, _ = run(tmp_path, LATE + COMPILE)
    check(words, tmp_path)
    assert mine[0] == "mine"
    assert elsewhere[0].startswith(f"{tmp_path}/other/cogjax/xla/")
    assert [name for name in os.listdir(elsewhere[0]) if name.endswith("-cache")]


def test_what_the_user_says_stands(tmp_path):
    mine = str(tmp_path / "mine")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=mine) == [[mine, "None", "None"]]
    assert run(tmp_path, JAX_COMPILATION_CACHE_MAX_SIZE="4096")[0][1] == "4096"
    assert run(tmp_path, ENABLE + COMPILE, JAX_ENABLE_COMPILATION_CACHE="0")
    assert os.listdir(tmp_path) == []


def test_a_home_that_cannot_be_written(tmp_path):
    """A file in its place, which root cannot write to either."""
    (tmp_path / "home").touch()
    assert run(tmp_path / "home", ENABLE + COMPILE)[0][0] == "None"
    assert run(tmp_path, XDG_CACHE_HOME="no/root")[0][0] == "None"


def test_a_damaged_program_is_said_in_one_line(tmp_path):
    [words] = run(tmp_path, DAMAGED, PYTHONWARNINGS="default")
    said = f"cogjax: {tmp_path} has a damaged jit_double, compiled anew: empty that"
    assert " ".join(words) == f"{said} folder"
