#!/usr/bin/env python3
"""Launches and bytes of one decode step, from the emulator's log and the catalogue of values, against
the least possible: every weight and every cached key and value read once.

    traffic.py MODEL [--numerics NAME] [--attention NAME] [--past N]      of a build with CUDA=emulated

A value's bytes are what its operation reads and writes, each once: inputs, parameters, output; those that stay inside
a launch of several operations count nevertheless.
Copies of keys and values that PyTorch makes for grouped heads (numerics torch-cuda) count too.
"""
import argparse
import collections
import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))

import daemon  # noqa: E402
import models  # noqa: E402

BYTES = {"BF16": 2, "F16": 2, "F32": 4}  # as the device holds them: all as bf16
ATTENDS = ("matmul_qk", "matmul_pv", "sdpa")


def parameters(folder):
    """{name: shape}"""
    return {e[0]: e[2] for path in daemon.checkpoint_files(folder) for e in daemon.Tensors(path).entries}


def count(shape, keys, tokens=1):
    """Elements of a shape of the catalogue, for tokens of which the last sees so many keys."""
    total = 1
    for extent in shape:
        if extent == "T":
            extent = tokens
        elif not isinstance(extent, int):  # "L", "min(L, 32)"
            limit = [int(word) for word in extent.replace("(", " ").replace(")", " ").replace(",", " ").split()
                     if word.isdigit()]
            extent = min([keys] + limit)
        total *= extent
    return total


def weight_elements(value, tensors):
    """Of the row's own parameters."""
    total = 0
    for part in ("weight", "bias"):
        shape = tensors.get(f"{value['name']}.{part}")
        if value["name"] == "lm_head" and shape is None and part == "weight":
            shape = tensors["model.embed_tokens.weight"]
        if shape:
            total += shape[-1] if value["op"] == "embedding" else count(shape, 0)
    return total


def step_bytes(values, tensors, keys, copies):
    """{kind: bytes} of a decode step.  copies: of keys and values for every query head."""
    made = {v["name"]: v for v in values}
    out = collections.Counter()
    for v in values:
        out["weights"] += 2 * weight_elements(v, tensors)
        if v["op"] == "cache_append":
            out["activations"] += 2 * 2 * count(v["shape"], 1)
            continue
        out["activations"] += 2 * count(v["shape"], keys)
        for name in v["inputs"]:
            source = made.get(name)
            if source is None:  # tokens, positions
                out["activations"] += 8
            elif source["op"] == "cache_append":
                out["keys and values"] += 2 * count(source["shape"], keys)
                if copies and v["op"] in ATTENDS:
                    heads = (v["shape"] if v["op"] == "matmul_qk" else made[v["inputs"][0]]["shape"])[0]
                    if heads != source["shape"][0]:
                        each = 2 * count(source["shape"], keys) // source["shape"][0]
                        out["copies of keys and values"] += 2 * heads * each
            else:
                out["activations"] += 2 * count(source["shape"], keys)
    return out


def last_step(path):
    """The lines of the log since the last token was sent."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    starts = [i for i, line in enumerate(lines) if line == "copy host-to-device 8"]
    return lines[starts[-1]:]


def measure(folder, numerics, attention, past, values=("step_1/logits",)):
    """values: that are asked for, which are not done in one launch with others."""
    with tempfile.TemporaryDirectory() as work:
        log = os.path.join(work, "log")
        with daemon.Daemon(folder, numerics, 1, device="cuda:0", environment={"SAMEBIT_EMULATED_LOG": log}) as server:
            server.json("/v1/trace", {"tokens": [1] * past, "steps": 1, "values": list(values),
                                      "attention": attention, "format": "digest"})
            catalogue = server.json(f"/v1/values?attention={attention}")["values"]
        lines = last_step(log)
    launches = collections.Counter(line.split()[1] for line in lines if line.startswith("launch "))
    moved = step_bytes(catalogue, parameters(folder), past + 1, numerics == "torch-cuda")
    return {"launches": launches, "steps": len(catalogue), "rotary": sum(v["op"] == "rotary" for v in catalogue), "moved": moved,
            "least": moved["weights"] + moved["keys and values"],
            "copied": [tuple(line.split()[1:]) for line in lines if line.startswith("copy ")]}


def show(what):
    total, least = sum(what["moved"].values()), what["least"]
    print(f"launches: {sum(what['launches'].values())} for {what['steps']} values")
    for name, n in what["launches"].most_common():
        print(f"  {n:5}  {name}")
    print(f"bytes read and written: {total:,}, {total / least:.4f} of the least possible, {least:,}")
    for name, n in what["moved"].items():
        print(f"  {n:14,}  {name}")
    for way, size in what["copied"]:
        print(f"copy {way}: {int(size):,} bytes")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--numerics", default="torch-cpu/avx512_bf16")
    p.add_argument("--attention", default="sdpa")
    p.add_argument("--past", type=int, default=16)
    a = p.parse_args()
    folder, why = models.find(a.model)
    if not folder:
        sys.exit(why)
    show(measure(folder, a.numerics, a.attention, a.past))


if __name__ == "__main__":
    main()
