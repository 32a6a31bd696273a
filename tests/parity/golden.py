"""Records golden/*.json: digests of PyTorch's own values, for machines without PyTorch.

A golden file holds, for one model: its weights digest, where the values come from, and for each
numerics and prompt the SHA-256 of every value's bytes as the binary trace has them, cut to 16 hex
digits; one list for each call, in the order of `values`.  `sweeps` are longer runs with one digest
for each call: that of its values' digests, as 64 hex digits each, joined.
"""
import datetime
import hashlib
import json
import os
import subprocess
import sys

import checks
import daemon
import models
import reference

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "golden")
DIGITS = 16
SMALL = [(1, 2), (5, 2), (17, 4), (64, 1)]
RUNS = {"smollm2-135m": [(17, 4)], "qwen2.5-0.5b-random": [(5, 1)]}
# Every number of keys from 1 to 41, where the orders of small sums change; and many.
SWEEPS = [(1, 40), (12, 28), (100, 2), (300, 1)]
OTHER_SWEEPS = {"smollm2-135m": [(40, 6)], "qwen2.5-0.5b-random": [], "tiny-qwen2": SWEEPS + [(1100, 1)]}


def provenance():
    import torch
    import transformers

    with open("/proc/cpuinfo") as file:
        name = next((s.split(":", 1)[1].strip() for s in file if s.startswith("model name")), "unknown")
    flags = [f for f in ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16")
             if f in reference.cpu_flags()]
    return {"torch": torch.__version__, "transformers": transformers.__version__, "cpu": name, "flags": flags,
            "capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
            "attention": "eager", "date": datetime.date.today().isoformat()}


def record_run(model, tokens, steps):
    """Names of the values, the tokens fed and the digests of each call."""
    import torch

    names, calls = [], [[] for _ in range(steps + 1)]

    def on_value(call, name, value):
        if call == 0:
            names.append(name)
        elif names[len(calls[call])] != name:
            raise reference.Refused(f"call {call}: {name} is out of order")
        data = value.contiguous().view(torch.int16).numpy().tobytes()
        calls[call].append(hashlib.sha256(data).hexdigest())

    fed = model.run(tokens, steps, on_value)
    return names, {"tokens": fed[:-1], "prompt": len(tokens), "steps": steps, "calls": calls}


def cut(run):
    return {**run, "calls": [[digest[:DIGITS] for digest in call] for call in run["calls"]]}


def join(run):
    """One digest a call."""
    return {**run, "calls": [hashlib.sha256("".join(call).encode()).hexdigest()[:DIGITS] for call in run["calls"]]}


def record_model(name, numerics):
    """What one process knows of one model: its runs under one numerics."""
    reference.check_numerics(numerics)
    folder, why = models.find(name)
    if not folder:
        raise reference.Refused(why)
    model = reference.Reference(folder)
    model.prove(checks.prompt(model, folder, 5), 2)
    names, runs, sweeps = [], [], []
    for length, steps in RUNS.get(name, SMALL):
        names, run = record_run(model, checks.prompt(model, folder, length), steps)
        runs.append(cut(run))
    for length, steps in OTHER_SWEEPS.get(name, SWEEPS):
        _, run = record_run(model, checks.prompt(model, folder, length, length), steps)
        sweeps.append(join(run))
    return {"model": name, "weights": daemon.weights_digest(folder), "values": names,
            "numerics": {numerics: {"provenance": provenance(), "runs": runs, "sweeps": sweeps}}}


def in_process(name, numerics):
    """record_model in a process where PyTorch computes that numerics."""
    done = subprocess.run([sys.executable, os.path.abspath(__file__), name, numerics], cwd=HERE, check=True,
                          stdout=subprocess.PIPE, env=reference.environment(numerics))
    return json.loads(done.stdout)


def layout(value, depth=0):
    """JSON with one line for what holds no further objects or lists."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)) or not any(isinstance(v, (dict, list)) for v in inner):
        return json.dumps(value)
    pad, (first, last) = "\n" + " " * (depth + 1), "{}" if isinstance(value, dict) else "[]"
    parts = [layout(v, depth + 1) for v in inner]
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {part}" for key, part in zip(value, parts)]
    return first + pad + ("," + pad).join(parts) + pad[:-1] + last


def record(only=None):
    """Writes the golden files of all models, or of some."""
    os.makedirs(FOLDER, exist_ok=True)
    for name in only or models.tiny_names() + list(RUNS):
        whole = None
        for numerics in reference.NUMERICS:
            if why := reference.why_not(numerics):
                print(f"skip: {numerics}: {why}")
                return 1
            part = in_process(name, numerics)
            whole = whole or {**part, "numerics": {}}
            if (part["values"], part["weights"]) != (whole["values"], whole["weights"]):
                raise reference.Refused(f"{name}: the numerics see different models")
            whole["numerics"].update(part["numerics"])
        path = os.path.join(FOLDER, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(layout(whole) + "\n")
        print(f"{path}: {os.path.getsize(path):,} bytes", flush=True)
    return 0


if __name__ == "__main__":
    json.dump(record_model(*sys.argv[1:3]), sys.stdout)
