"""The server's values against digests of PyTorch's on a CPU with AMX (golden/hosts/<attention>/*.json).

Recorded as golden/<attention> is, with that host's own numerics and with those that PyTorch computes
there when it is told to use less; a name says so, and torch's threads where bits depend on them:
"torch-cpu/amx_bf16 threads=2", "torch-cpu/avx2,mkl=amx threads=2".  All run on any CPU.
"""
import glob
import json
import os

import pytest

import daemon
import test_golden

FOLDER = os.path.join(test_golden.FOLDER, "hosts")
FILES = [(attention, os.path.basename(path)[:-5]) for attention in test_golden.ATTENTIONS
         for path in sorted(glob.glob(os.path.join(FOLDER, attention, "*.json")))]
OF_THREADS = ("torch-cpu/amx_bf16", "torch-cpu/avx512")
QUICK = ("tiny-qwen2", "tiny-wide")  # the others, and the sweeps, take minutes


def golden(attention, name):
    with open(os.path.join(FOLDER, attention, name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def cases():
    for attention, name in FILES:
        for key in golden(attention, name)["numerics"]:
            quick = name in QUICK and not (test_golden.GPU or test_golden.OTHER_CPU)
            yield pytest.param(attention, name, key, id=f"{attention}-{name}-{key}", marks=[] if quick else [pytest.mark.slow])


def test_there_are_goldens():
    """Of every numerics that only such a host has, with several numbers of threads."""
    keys = {key for attention, name in FILES for key in golden(attention, name)["numerics"]}
    assert {f"torch-cpu/amx_bf16 threads={n}" for n in (1, 2, 3, 8)} <= keys
    assert {f"torch-cpu/avx512 threads={n}" for n in (1, 2, 3)} <= keys
    assert {f"torch-cpu/{name} threads=2" for name in ("avx512_bf16,mkl=amx", "avx512_bf16,mkl=intel", "avx2,mkl=amx")} <= keys


@pytest.mark.parametrize("attention,name,key", list(cases()))
def test_values(attention, name, key, request):
    """Every value of every call has PyTorch's digest, and there is no other."""
    g, folder = golden(attention, name), test_golden.folder_of(name)
    numerics, threads = key.split(" threads=")
    more = ["--torch-threads", threads] if numerics in OF_THREADS else []
    with daemon.Daemon(folder, numerics, 2, arguments=more) as server:
        said = server.json("/v1/model")
        assert said["weights"] == g["weights"], "the model is another one"
        assert said.get("torch_threads") == (int(threads) if more else None)
        for run in g["numerics"][key]["runs"]:
            test_golden.check_run(server, attention, g["values"], run)
        for run in g["numerics"][key]["sweeps"] if request.config.getoption("markexpr") != "not slow" else []:
            test_golden.check_sweep(server, attention, g["values"], run)
