"""Where compiled programs are kept, each case in a process of its own."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from cogjax import compilation_cache
{before}
compilation_cache.enable()
assert ("jax" in sys.modules) == {imported}
import jax
print(jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size)
print(jax.config.jax_persistent_cache_min_compile_time_secs)
{after}
"""
COMPILE = """
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: x + 1)(1))
"""


def run(home, before="", after="", **variables):
    """Words that the program prints, with `home` as the user's."""
    env = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    env |= {"HOME": str(home), "PYTHONWARNINGS": "error"} | variables
    code = PROGRAM.format(before=before, after=after, imported="import jax" in before)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("before", ["", "import jax"], ids=("first", "after JAX"))
def test_a_bounded_folder_of_the_user(tmp_path, before):
    folder, size, least, _ = run(tmp_path, before, COMPILE)
    assert folder.startswith(f"{tmp_path}/.cache/cogjax/xla/")
    assert int(size) == 2**30 and float(least) <= 0.1
    assert [name for name in os.listdir(folder) if name.endswith("-cache")]
    elsewhere, *_ = run(tmp_path, before, XDG_CACHE_HOME=str(tmp_path / "other"))
    assert elsewhere.startswith(f"{tmp_path}/other/cogjax/xla/")


def test_what_the_user_says_stands(tmp_path):
    mine = str(tmp_path / "mine")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=mine)[:2] == [mine, "-1"]
    update = f"import jax; jax.config.update('jax_compilation_cache_dir', {mine!r})"
    assert run(tmp_path, update)[:2] == [mine, "-1"]
    assert run(tmp_path, JAX_COMPILATION_CACHE_MAX_SIZE="4096")[1] == "4096"
    assert run(tmp_path, after=COMPILE, JAX_ENABLE_COMPILATION_CACHE="0")
    assert os.listdir(tmp_path) == []


def test_a_home_that_cannot_be_written(tmp_path):
    """A file in its place, which root cannot write to either."""
    (tmp_path / "home").touch()
    assert run(tmp_path / "home", after=COMPILE)[0] == "None"
    assert run(tmp_path, after=COMPILE, XDG_CACHE_HOME="no/root")[0] == "None"
