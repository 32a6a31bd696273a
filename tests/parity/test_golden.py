"""The server's values against digests of PyTorch's (golden/*.json, recorded by `make golden`).

Needs neither PyTorch nor the CPU that the digests were recorded on: the bits of a numerics are the
same everywhere.  SAMEBITD names the daemon, build/samebitd otherwise.
"""
import glob
import json
import os

import pytest

import daemon
import models

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
GOLDENS = sorted(os.path.basename(path)[:-5] for path in glob.glob(os.path.join(FOLDER, "*.json")))
NUMERICS = ["torch-cpu/avx512_bf16", "torch-cpu/avx2"]
# Threads and instructions (None: the best that the CPU has) change no bits.
WAYS = [(1, None), (3, "plain"), (2, "avx2")]
CASES = [(name, numerics, *way) for name in GOLDENS for numerics in NUMERICS
         for way in (WAYS if name.startswith("tiny-") else [(2, None)])]


def golden(name):
    with open(os.path.join(FOLDER, name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def folder_of(name):
    """A small model is made; a larger one is used where it is there already."""
    if not name.startswith("tiny-") and name in models.made_names():
        folder = os.path.join(models.made_folder(), name)
        if not os.path.exists(os.path.join(folder, ".complete")):
            pytest.skip(f"skip: {folder} is absent (make parity makes it)")
    folder, why = models.find(name, fetch=False)
    if not folder:
        pytest.skip(f"skip: {why}")
    return folder


def expected(values, run):
    """{name in a trace: digest}, in the order of execution."""
    return {name if call == 0 else f"step_{call}/{name}": digest
            for call, digests in enumerate(run["calls"]) for name, digest in zip(values, digests)}


def differences(want, got):
    """What differs, first of all the first value in the order of execution."""
    wrong = [name for name in want if got.get(name, {}).get("sha256", "")[:len(want[name])] != want[name]]
    missing, more = [n for n in want if n not in got], [n for n in got if n not in want and n != "tokens"]
    return wrong, missing, more


def test_there_are_goldens():
    """Of every small model, each with both numerics."""
    assert set(models.tiny_names()) <= set(GOLDENS)
    for name in GOLDENS:
        assert list(golden(name)["numerics"]) == NUMERICS


def cpu_flags():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return set(next((line for line in file if line.startswith("flags")), "").split())


@pytest.mark.parametrize("name,numerics,threads,isa", CASES)
def test_values(name, numerics, threads, isa):
    """Every value of every call has PyTorch's digest, and there is no other."""
    if isa == "avx2" and not {"avx2", "fma"} <= cpu_flags():
        pytest.skip("skip: this CPU lacks avx2")
    g, folder = golden(name), folder_of(name)
    with daemon.Daemon(folder, numerics, threads, isa) as server:
        assert server.json("/v1/model")["weights"] == g["weights"], "the model is another one"
        for run in g["numerics"][numerics]["runs"]:
            prompt = run["tokens"][:run["prompt"]]
            reply = server.json("/v1/trace", {"tokens": prompt, "steps": run["steps"], "values": ["*"],
                                              "positions": "all", "format": "digest"})
            want = expected(g["values"], run)
            wrong, missing, more = differences(want, reply["values"])
            assert not missing and not more, f"{len(prompt)} tokens: missing {missing[:4]}, unknown {more[:4]}"
            assert not wrong, f"{len(prompt)} tokens: {len(wrong)} of {len(want)} differ, first {wrong[:4]}"
            assert reply["tokens"] == run["tokens"]
            assert reply["numerics"] == numerics
