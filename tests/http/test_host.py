"""--which-numerics and --numerics host: the machine at hand (unit/test_host.c has made-up ones)."""
import os
import subprocess

import pytest
from conftest import SAMEBITD, Daemon

PORTABLE = "torch-cpu/avx512_bf16"
NAMES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR",
         "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_DYNAMIC")
CLEAN = {name: "" for name in NAMES}  # an empty one counts as not set


def ask(*arguments, **variables):
    return subprocess.run([SAMEBITD, *arguments], env=os.environ | CLEAN | variables, text=True, capture_output=True, timeout=20)


def which(*arguments, **variables):
    done = ask("--which-numerics", *arguments, **variables)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.splitlines()


def test_it_says_which_and_why():
    lines = which()
    name = lines[0].split(" ")[0]
    assert len(lines) >= 4
    assert lines[-1].startswith("  --numerics torch-cpu/")
    assert name == "none" or lines[-1].split()[1] == name


def test_a_gpu_gets_the_portable_one():
    assert which("--device", "cuda:0")[0] == PORTABLE


def test_host_is_what_it_says(model):
    name = which()[0]
    if " " in name or name == "none":
        pytest.skip(f"PyTorch's bits under sdpa are those of no numerics here: {name}")
    d = Daemon(model, None, ("--device", "cpu", "--numerics", "host"), environment=CLEAN)
    try:
        assert f"numerics {name}," in d.line
        assert f"--numerics host is {name}" in d.said()
        assert d.get("/v1/model").json["numerics"] == name
    finally:
        d.stop()


def test_what_no_numerics_mirrors_is_refused(model):
    lines = which(ATEN_CPU_CAPABILITY="default")
    if lines[0] != "none":
        pytest.skip("this CPU gets the portable numerics")
    done = ask("--model", model, "--listen", "127.0.0.1:0", "--numerics", "host", ATEN_CPU_CAPABILITY="default")
    nearest = lines[-1].split()[1]
    assert done.returncode == 2
    assert f"of no numerics (--which-numerics says why); the nearest is --numerics {nearest}" in done.stderr
