"""A small part of `make fuzz-differential`."""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("SAMEBIT_BUILD") or "build"


@pytest.mark.skipif(bool(os.environ.get("SAMEBIT_EMULATOR")), reason="of this machine's programs")
def test_both_read_the_same():
    done = subprocess.run([sys.executable, "-W", "ignore", os.path.join(HERE, "differential.py"), "--build", BUILD, "--mutations", "20"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "the same" in done.stdout, done.stdout + done.stderr
