"""A sample of what `make chaos` does: sites that are refused at start, in requests and in the tool."""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, os.environ.get("SAMEBIT_BUILD") or "build")
LIBRARY = os.path.join(BUILD, "tests", "chaos", "failing.so")


@pytest.mark.skipif(not os.path.exists(LIBRARY), reason="a sanitizer has the allocator")
@pytest.mark.skipif("emulated" in BUILD, reason="the emulated device itself ends where it has no memory")
@pytest.mark.parametrize("part, seconds", [("start-up", 4), ("trace digest", 2), ("trace given", 1), ("generate", 2), ("tokenize", 1), ("tool", 2)])
def test_what_is_refused_is_said(part, seconds):
    done = subprocess.run([sys.executable, os.path.join(HERE, "chaos.py"), "--build", BUILD, "--model",
                           os.path.join(os.environ["SAMEBIT_TINY"], "tiny-qwen2"), "--only", part, "--seconds", str(seconds)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
