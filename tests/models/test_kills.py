"""A few of the kills of `make kills`."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def test_nothing_half_made_is_believed():
    done = subprocess.run([sys.executable, os.path.join(HERE, "kills.py"), "--build", os.environ.get("SAMEBIT_BUILD") or "build", "--kills", "7",
                           "--model", os.path.join(os.environ["SAMEBIT_TINY"], "tiny-qwen2")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
