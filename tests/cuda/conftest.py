"""Tests of the CUDA backend by a daemon: on a GPU, or on the CPU in a build with CUDA=emulated."""
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))

import devices  # noqa: E402


@pytest.fixture(autouse=True)
def device():
    """Only where there is one."""
    if not devices.gpu():
        pytest.skip("skip: no CUDA device, or a build without CUDA")
    return devices.gpu()


@pytest.fixture
def emulated(device):
    """Only where kernels run on the CPU, whose launches are logged."""
    if device != devices.EMULATED:
        pytest.skip("skip: not built with CUDA=emulated")
