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


@pytest.mark.parametrize("named", [("--numerics", "host"), ()])
def test_host_is_what_it_says_and_the_default(model, named):
    name = which()[0]
    if " " in name or name == "none":
        pytest.skip(f"PyTorch's bits under sdpa are those of no numerics here: {name}")
    d = Daemon(model, None, ("--device", "cpu", *named), environment=CLEAN, numerics=None)
    try:
        assert f"numerics {name}," in d.line
        assert d.get("/v1/model").json["numerics"] == name
    finally:
        d.stop()


UNKNOWN = {"ATEN_CPU_CAPABILITY": "default"}


def test_what_no_numerics_mirrors_is_refused(model):
    lines = which(**UNKNOWN)
    if lines[0] != "none":
        pytest.skip("this CPU gets the portable numerics")
    done = ask("--model", model, "--listen", "127.0.0.1:0", "--numerics", "host", **UNKNOWN)
    nearest = lines[-1].split()[1]
    assert done.returncode == 2
    assert f"of no numerics (--which-numerics says why); the nearest is --numerics {nearest}" in done.stderr


def test_and_by_default_is_the_portable_one_with_a_notice(model):
    d = Daemon(model, None, ("--device", "cpu"), environment=CLEAN | UNKNOWN, numerics=None)
    try:
        said = d.get("/v1/model").json
        assert said["numerics"] == PORTABLE and "attention sdpa" in d.line
        notice, = [n for n in said["notices"] if "portable" in n]
        assert notice in d.said()
        if which(**UNKNOWN)[0] == "none":
            assert "no numerics has PyTorch's bits on this machine" in notice
    finally:
        d.stop()


@pytest.mark.parametrize("asked, numerics, attention", [
    ((), "as found", "eager"), (("--attention", "eager"), "as found", "eager"), (("--attention", "sdpa"), PORTABLE, "sdpa")])
def test_where_only_eager_is_mirrored(model, asked, numerics, attention):
    unknown = {"MKL_CBWR": "COMPATIBLE"}
    name = which(**unknown)[0].split(" ")
    if name[1:] != ["(eager", "attention", "only)"]:
        pytest.skip(f"this CPU gets {' '.join(name)}")
    d = Daemon(model, None, ("--device", "cpu", *asked), environment=CLEAN | unknown, numerics=None)
    try:
        said = d.get("/v1/model").json
        assert said["numerics"] == (numerics if numerics == PORTABLE else name[0])
        assert f"attention {attention}," in d.line
        assert any("sdpa" in n for n in said["notices"]) == (asked != ("--attention", "eager"))
    finally:
        d.stop()


def test_threads_are_refused_where_the_machines_bits_depend_on_none(model):
    name = which()[0].split(" ")[0]
    if name in ("torch-cpu/amx_bf16", "torch-cpu/avx512", "none"):
        pytest.skip(f"this CPU gets {name}")
    done = ask("--model", model, "--listen", "127.0.0.1:0", "--torch-threads", "2")
    assert done.returncode == 1 and f"the bits of numerics {name} depend on no threads" in done.stderr


def test_numerics_of_another_machine_are_noticed(model):
    lines = which()
    name = lines[0]
    if " " in name or name == "none":
        pytest.skip(f"PyTorch's bits under sdpa are those of no numerics here: {name}")
    for served in (PORTABLE, "torch-cpu/avx2"):
        d = Daemon(model, None, ("--device", "cpu"), environment=CLEAN, numerics=served)
        said = f"PyTorch on this machine has other bits, those of numerics {name} "
        wanted = name != served and "the portable numerics" not in lines[1]
        assert (said in d.said()) == any(n.startswith(said) for n in d.get("/v1/model").json["notices"]) == wanted
        d.stop()


# ---- a live torch ----

SAMEBIT = os.path.join(os.path.dirname(SAMEBITD), "samebit")
SCRIPT = """#!/usr/bin/env python3
import sys
{body}
"""


def a_python(tmp_path, body):
    path = tmp_path / "python"
    path.write_text(SCRIPT.format(body=body))
    path.chmod(0o755)
    return str(path)


HEAD = 'print(\'{"torch": "2.13.0", "threads": 1, "capability": "AVX2"}\', flush=True)\n'


@pytest.mark.parametrize("body, says", [
    ("sys.exit(3)", "ended with status 3"),
    ("print('hello')", "does not answer as a Python with torch would"),
    ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
    ("import os; os.kill(os.getpid(), 4)", "instructions that this CPU lacks"),
    ("print('{\"error\": \"it has no torch\"}')", "it has no torch"),
    (HEAD + "sys.stdout.buffer.write(bytes(99))", "does not answer"),
    (HEAD + "while True: sys.stdout.buffer.write(bytes(1 << 16))", "does not answer"),
    ("print('{\"torch\": 2, \"threads\": 0}')", "does not answer"),
    ("import os, time; os.close(1); time.sleep(1000)", "ended by signal 9"),
])
def test_a_python_that_is_none(tmp_path, body, says):
    done = ask("--which-numerics", "--python", a_python(tmp_path, body))
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout.splitlines() == which()  # what is known without one is said


def test_a_path_that_is_none(tmp_path):
    for path in (str(tmp_path / "none"), str(tmp_path), "no-such-python"):
        done = ask("--which-numerics", "--python", path)
        assert done.returncode == 2 and done.stderr.startswith(f"samebitd: --python {path}: ")


def test_a_torch_with_the_bits_of_none(tmp_path):
    """It answers in form: not as said, and the exit status says so."""
    sizes = "2*64 + 96 + 40*128 + 64*4096 + 2*64 + 33*2*64 + 150*2*64"
    done = ask("--which-numerics", "--python", a_python(tmp_path, HEAD + f"sys.stdout.buffer.write(bytes(2 * ({sizes})))"))
    assert "these are the bits of no numerics" in done.stdout
    if which()[0] not in ("none", PORTABLE):
        assert done.returncode == 1 and "not as said" in done.stdout


def test_samebit_numerics_is_the_same():
    done = subprocess.run([SAMEBIT, "numerics"], env=os.environ | CLEAN, text=True, capture_output=True, timeout=20)
    assert done.returncode == 0 and done.stdout.splitlines() == which()
    done = subprocess.run([SAMEBIT, "numerics", "--python", "/nonexistent"], text=True, capture_output=True, timeout=20)
    assert done.returncode == 2 and "/nonexistent: No such file" in done.stderr
