"""Tests of the CUDA backend by a daemon whose kernels run on the CPU (make CUDA=emulated)."""
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))


@pytest.fixture(autouse=True)
def emulated():
    """Only where the kernels are built for the CPU."""
    if "emulated" not in os.environ.get("SAMEBIT_BUILD", "").split(os.sep):
        pytest.skip("skip: not built with CUDA=emulated")
