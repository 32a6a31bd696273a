"""Records golden/<attention>/*.json: digests of PyTorch's own values, for machines without PyTorch.

A golden file holds, for one model and attention: its weights digest, where the values come from, and for each
numerics and prompt the SHA-256 of every value's bytes as the binary trace has them, cut to 16 hex
digits; one list for each call, in the order of `values`.  `sweeps` are longer runs with one digest
for each call: that of its values' digests, as 64 hex digits each, joined.
A run may have `chunks` (the prompt is fed in so many calls) or `padding` (so many first tokens are
left padding).
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
# Of the others golden/hosts has digests, in the same form (test_golden_hosts.py).
NUMERICS = ["torch-cpu/avx512_bf16", "torch-cpu/avx2"]
DEFAULT = ""  # any model not named
# (tokens, decode steps, more of a case)
PARTS = [(21, 1, {"chunks": [9, 1, 2, 3, 6]}), (21, 2, {"padding": [8]})]
RUNS = {
    "eager": {DEFAULT: [(1, 2), (5, 2), (17, 4), (64, 1)], "smollm2-135m": [(17, 4)], "qwen2.5-0.5b-random": [(5, 1)]},
    "sdpa": {DEFAULT: [(1, 1), (17, 2)], "tiny-qwen2": [(1, 1), (17, 2), *PARTS], "smollm2-135m": [(17, 1)],
             "qwen2.5-0.5b-random": [(5, 1)]}}
# Every number of keys from 1 to 41, where the orders of small sums change; and many.
SWEEPS = [(1, 40), (12, 28), (100, 2), (300, 1)]
LONG = [(513, 2), *PARTS, (70, 2, {"padding": [20], "chunks": [10, 20, 40]})]
LONGER = [(800, 1), (300, 1, {"chunks": [128, 100, 72]}), (300, 1, {"padding": [100]})]
OTHER_SWEEPS = {
    "eager": {DEFAULT: SWEEPS, "smollm2-135m": [(40, 6)], "qwen2.5-0.5b-random": [], "tiny-qwen2": SWEEPS + [(1100, 1)]},
    "sdpa": {DEFAULT: SWEEPS + LONG, "smollm2-135m": [(40, 6), *PARTS], "qwen2.5-0.5b-random": [],
             "tiny-qwen2": SWEEPS + LONG + LONGER + [(1100, 1)], "tiny-mistral": SWEEPS + LONG + LONGER}}


def provenance(attention):
    import torch
    import transformers

    with open("/proc/cpuinfo") as file:
        name = next((s.split(":", 1)[1].strip() for s in file if s.startswith("model name")), "unknown")
    flags = [f for f in ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16")
             if f in reference.cpu_flags()]
    return {"torch": torch.__version__, "transformers": transformers.__version__, "cpu": name, "flags": flags,
            "capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
            "attention": attention, "date": datetime.date.today().isoformat()}


def record_run(model, folder, seed, length, steps, more=None):
    """Names of the values, the tokens fed and the digests of each call."""
    import torch

    case = {"length": length, "steps": steps, **(more or {})}
    feed = checks.feed(model, folder, case, seed)
    names, calls = [], [[] for _ in range(feed.calls)]

    def on_value(call, name, value):
        if call == 0:
            names.append(name)
        elif names[len(calls[call])] != name:
            raise reference.Refused(f"call {call}: {name} is out of order")
        data = value.contiguous().view(torch.int16).numpy().tobytes()
        calls[call].append(hashlib.sha256(data).hexdigest())

    fed, = model.run(feed, [on_value])
    parts = {"chunks": feed.chunks} if len(feed.chunks) > 1 else {}
    parts |= {"padding": feed.padding[0]} if feed.padding else {}
    return names, {"tokens": fed[:-1], "prompt": length, "steps": steps, **parts, "calls": calls}


def cut(run):
    return {**run, "calls": [[digest[:DIGITS] for digest in call] for call in run["calls"]]}


def join(run):
    """One digest a call."""
    return {**run, "calls": [hashlib.sha256("".join(call).encode()).hexdigest()[:DIGITS] for call in run["calls"]]}


def of(table, attention, name):
    return table[attention].get(name, table[attention][DEFAULT])


def record_model(name, numerics, attention):
    """What one process knows of one model: its runs under one numerics and attention."""
    reference.check_numerics(numerics)
    folder, why = models.find(name)
    if not folder:
        raise reference.Refused(why)
    model = reference.Reference(folder, attention)
    model.prove(checks.feed(model, folder, {"length": 5, "steps": 2}))
    names, runs, sweeps = [], [], []
    for run in of(RUNS, attention, name):
        names, run = record_run(model, folder, 0, *run)
        runs.append(cut(run))
    for length, *rest in of(OTHER_SWEEPS, attention, name):
        _, run = record_run(model, folder, length, length, *rest)
        sweeps.append(join(run))
    return {"model": name, "weights": daemon.weights_digest(folder), "values": names,
            "numerics": {numerics: {"provenance": provenance(attention), "runs": runs, "sweeps": sweeps}}}


def in_process(name, numerics, attention):
    """record_model in a process where PyTorch computes that numerics."""
    done = subprocess.run([sys.executable, os.path.abspath(__file__), name, numerics, attention], cwd=HERE, check=True,
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


def record_file(name, attention):
    """The golden file of a model and attention; numerics that this machine does not have stay as they
    are, or away."""
    folder = os.path.join(FOLDER, attention)
    path = os.path.join(folder, name + ".json")
    whole = None
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            whole = json.load(file)
    for numerics in NUMERICS:
        if reference.why_not(numerics):
            continue
        part = in_process(name, numerics, attention)
        whole = whole or {**part, "numerics": {}}
        if (part["values"], part["weights"]) != (whole["values"], whole["weights"]):
            raise reference.Refused(f"{name}: the numerics see different models")
        whole["numerics"].update(part["numerics"])
    whole["numerics"] = {n: whole["numerics"][n] for n in NUMERICS if n in whole["numerics"]}
    os.makedirs(folder, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(layout(whole) + "\n")
    print(f"{path}: {os.path.getsize(path):,} bytes", flush=True)


def record(only=None, attentions=None):
    """Writes the golden files of all models, or of some, with each attention, or with some."""
    missing = [numerics for numerics in NUMERICS if reference.why_not(numerics)]
    for numerics in missing:
        print(f"skip: {numerics}: {reference.why_not(numerics)}")
    if missing and not only:
        return 1
    for attention in attentions or reference.ATTENTIONS:
        larger = [name for name in RUNS[attention] if name != DEFAULT and not name.startswith("tiny-")]
        for name in only or models.tiny_names() + larger:
            record_file(name, attention)
    return 0


if __name__ == "__main__":
    json.dump(record_model(*sys.argv[1:4]), sys.stdout)
