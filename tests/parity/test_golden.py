"""The server's values against digests of PyTorch's (golden/<attention>/*.json, recorded by `make golden`).

Needs neither PyTorch nor the CPU that the digests were recorded on: the bits of a numerics are the
same everywhere.  SAMEBITD names the daemon, build/samebitd otherwise.
"""
import glob
import hashlib
import json
import os

import pytest

import daemon
import devices
import models

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
ATTENTIONS = ["sdpa", "eager"]
GOLDENS = [(attention, os.path.basename(path)[:-5]) for attention in ATTENTIONS
           for path in sorted(glob.glob(os.path.join(FOLDER, attention, "*.json")))]
NUMERICS = ["torch-cpu/avx512_bf16", "torch-cpu/avx2"]
# Models that no machine with such a CPU has recorded yet: `make golden PARITYFLAGS='--only NAME'` there.
UNRECORDED = dict.fromkeys(("tiny-gemma", "tiny-gemma2", "tiny-gemma3", "tiny-granite", "tiny-smollm3", "tiny-seed-oss",
                            "tiny-ministral", "tiny-exaone4", "tiny-phi3", "tiny-phi4-mini", "tiny-glm4",
                            "tiny-stablelm", "tiny-starcoder2",
                            "tiny-qwen3-yarn", "tiny-llama-dynamic", "tiny-llama-longrope"),
                           ["torch-cpu/avx512_bf16"])
# Threads and instructions (None: the best that the CPU has) change no bits, nor does a GPU, which is what a
# build with CUDA is asked.  Emulated, by tests/emulated/cuda or qemu, all are too slow for larger models and
# for everything in several ways.
OTHER_CPU = "SAMEBIT_EMULATOR" in os.environ
GPU = None if OTHER_CPU else devices.gpu()
# Sanitizers look at one way: the others run the same server code around the kernels that tests/kernels looks at.
SANITIZED = "address" in os.environ.get("SAMEBIT_BUILD", "")
WAYS = [(1, "cuda:0")] if GPU else [(2, None)] if OTHER_CPU or SANITIZED else [(1, None), (3, "plain"), (2, "avx2")]
LARGE = [] if OTHER_CPU or GPU == devices.EMULATED else [(1, "cuda:0")] if GPU else [(2, None)]
THOROUGH = "tiny-qwen3"  # the one that another CPU runs the plain version and sweeps of
CASES = [(attention, name, numerics, *way) for attention, name in GOLDENS for numerics in NUMERICS
         for way in (WAYS if name.startswith("tiny-") else LARGE)]
if OTHER_CPU:
    CASES += [(attention, THOROUGH, numerics, 1, "plain") for attention in ATTENTIONS for numerics in NUMERICS]


def golden(attention, name):
    with open(os.path.join(FOLDER, attention, name + ".json"), encoding="utf-8") as file:
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


def prefix(run, call):
    """What stands before the names of a call."""
    chunks = len(run.get("chunks", [0]))
    if call >= chunks:
        return f"step_{call - chunks + 1}/"
    return f"chunk_{call + 1}/" if chunks > 1 else ""


def expected(values, run):
    """{name in a trace: digest}, in the order of execution."""
    return {prefix(run, call) + name: digest
            for call, digests in enumerate(run["calls"]) for name, digest in zip(values, digests)}


def trace(server, attention, run):
    """The digests of one run: {name: {"sha256": ...}}."""
    prompt, more = run["tokens"][:run["prompt"]], {key: run[key] for key in ("padding", "chunks") if key in run}
    reply = server.json("/v1/trace", {"tokens": prompt, "steps": run["steps"], "values": ["*"], "positions": "all",
                                      "attention": attention, **more, "format": "digest"})
    assert reply["tokens"] == run["tokens"], f"{len(prompt)} tokens: others are fed"
    return {name: value["sha256"] for name, value in reply["values"].items() if name != "tokens"}


def where(run):
    return f"{run['prompt']} tokens" + "".join(f", {key} {run[key]}" for key in ("padding", "chunks") if key in run)


def check_run(server, attention, values, run):
    want, got = expected(values, run), trace(server, attention, run)
    missing, more = [n for n in want if n not in got], [n for n in got if n not in want]
    assert not missing and not more, f"{where(run)}: missing {missing[:4]}, unknown {more[:4]}"
    wrong = [name for name in want if got[name][:len(want[name])] != want[name]]
    assert not wrong, f"{where(run)}: {len(wrong)} of {len(want)} differ, first {wrong[:4]}"


def check_sweep(server, attention, values, run):
    """One digest for all values of a call."""
    got = trace(server, attention, run)
    assert len(got) == len(run["calls"]) * len(values), f"{where(run)}: {len(got)} values"
    for call, want in enumerate(run["calls"]):
        names = [prefix(run, call) + name for name in values]
        joined = hashlib.sha256("".join(got[name] for name in names).encode()).hexdigest()
        assert joined[:len(want)] == want, f"{where(run)}: values of call {call} differ"


def test_there_are_goldens():
    """Of every small model, each with both attentions and numerics; some in calls, some padded."""
    for attention in ATTENTIONS:
        assert set(models.tiny_names()) <= {name for a, name in GOLDENS if a == attention}
    for attention, name in GOLDENS:
        found = golden(attention, name)["numerics"]
        assert list(found) == [n for n in NUMERICS if n not in UNRECORDED.get(name, [])]
        if (attention, name) == ("sdpa", "tiny-qwen2"):
            runs = [run for part in found.values() for run in part["runs"]]
            assert any("chunks" in run for run in runs) and any("padding" in run for run in runs)


def cpu_flags():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return set(next((line for line in file if line.startswith("flags")), "").split())


def thorough(name, isa):
    return not OTHER_CPU or (name == THOROUGH and isa != "plain")


@pytest.mark.parametrize("attention,name,numerics,threads,isa", CASES)
def test_values(attention, name, numerics, threads, isa):
    """Every value of every call has PyTorch's digest, and there is no other."""
    if isa == "avx2" and not {"avx2", "fma"} <= cpu_flags():
        pytest.skip("skip: this CPU lacks avx2")
    if numerics in UNRECORDED.get(name, []):
        pytest.skip(f"skip: {name} is not recorded of {numerics} yet")
    g, folder = golden(attention, name), folder_of(name)
    device = isa if isa == "cuda:0" else None
    with daemon.Daemon(folder, numerics, threads, isa, device) as server:
        assert server.json("/v1/model")["weights"] == g["weights"], "the model is another one"
        for run in g["numerics"][numerics]["runs"]:
            check_run(server, attention, g["values"], run)
        for run in g["numerics"][numerics]["sweeps"] if thorough(name, isa) else []:
            check_sweep(server, attention, g["values"], run)
