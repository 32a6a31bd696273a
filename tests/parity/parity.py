#!/usr/bin/env python3
"""Compares samebitd with PyTorch, live, bit by bit.

    parity.py [--quick | --full] [--acceptance] [--only MODEL,...] [--numerics NAME]
    parity.py --golden             records golden/*.json from PyTorch alone

For each model, numerics and number of threads the server runs the prompts, and every value it
knows, of prefill and of every cached decode step, is compared with the same value in PyTorch: 0
differing bits are allowed, no value may lack a reference, and no reference a value.  Ends with the
line `N passed, N failed, N skipped`; the exit status is 0 only when none failed.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import models
import reference

HERE = os.path.dirname(os.path.abspath(__file__))

# The values that people look at first, by the names they use; see GET /v1/values.
ACCEPTANCE = [
    ("embedding_output", "model.embed_tokens"), ("normalized_input", "model.layers.0.input_layernorm"),
    ("attn_weights", "model.layers.0.self_attn.weights"), ("attn_output", "model.layers.0.self_attn.o_proj"),
    ("hidden_after_attn", "model.layers.0.attn_residual"),
    ("normalized_after_attn", "model.layers.0.post_attention_layernorm"),
    ("mlp_output", "model.layers.0.mlp.down_proj"), ("layer_0_final", "model.layers.0"), ("logits", "lm_head")]
ACCEPTANCE_MODELS = ["qwen2.5-0.5b-random", "smollm2-135m"]
ACCEPTANCE_LENGTHS = [1, 17]


# ---- what runs ----

def job(name, lengths, fewer=None, threads=(2, 1), replace=None):
    """lengths: [(prompt tokens, decode steps)], with the first number of threads; fewer: with the others."""
    return {"model": name, "lengths": lengths, "fewer": fewer or lengths, "threads": list(threads),
            "prove": [5, 2], "replace": replace, "watch": [path for _, path in ACCEPTANCE]}


def plan(arguments):
    if arguments.acceptance:
        return [job(name, [(n, 0) for n in ACCEPTANCE_LENGTHS], threads=(2,)) for name in ACCEPTANCE_MODELS]
    tiny = models.tiny_names()
    if arguments.quick:
        small = [(1, 24), (2, 4), (5, 4), (17, 8), (64, 4)]
        return [job(name, small, [(1, 4), (17, 8)], replace=[5, 2] if name in REPLACING else None)
                for name in tiny] + [job("smollm2-135m", [(1, 4), (5, 2), (17, 4)], [(5, 2)])]
    deep = [(1, 32), (2, 8), (5, 8), (17, 32), (64, 8), (300, 8)]
    # More than 1024 keys: one more block of the sums over keys.
    jobs = [job(name, [(n, 32) for n, _ in deep] + [(1100, 2)] * (name in REPLACING), replace=[5, 2])
            for name in tiny]
    jobs.append(job("smollm2-135m", deep, replace=[5, 2]))
    jobs.append(job("qwen2.5-0.5b-random", deep, [(1, 8), (17, 32), (300, 2)]))
    if arguments.full:
        jobs.append(job("qwen2.5-coder-1.5b", deep, [(1, 8), (17, 8)]))
    return jobs


REPLACING = ("tiny-qwen2", "tiny-qwen3", "tiny-llama", "tiny-mistral")


# ---- printing ----

class Report:
    """The table, and the counts of it."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.values = self.elements = self.differing = 0
        self.accepted = {}
        print(f"{'model':<22} {'numerics':<22} threads length steps  {'values':>7} {'elements':>13} {'differing':>10}")

    def count(self, passed):
        self.skipped += passed is None
        self.passed += passed is True
        self.failed += passed is False

    def add(self, r):
        if r["kind"] == "row":
            self._row(r)
        elif r["kind"] == "check":
            self.count(r["passed"])
            mark = "" if r["passed"] is not False else "FAILED: "
            print(f"{r['model']:<22} {r['numerics']:<22} {r['threads'] or '':>7} {r['name']}: {mark}{r['text']}")
        sys.stdout.flush()

    def _row(self, r):
        self.count(r["passed"])
        self.values += r["values"]
        self.elements += r["elements"]
        self.differing += r["differing"]
        note = f"  replaced {r['replaced']}" if r.get("replaced") else ""
        note += "" if r["passed"] else "  FAILED"
        print(f"{r['model']:<22} {r['numerics']:<22} {r['threads']:>7} {r['length']:>6} {r['steps']:>5}  "
              f"{r['values']:>7,} {r['elements']:>13,} {r['differing']:>10,}{note}")
        for text in r["problems"]:
            print(f"    {text}")
        for i, f in enumerate(r["found"]):
            print(f"    {'first difference: ' if i == 0 else 'then '}{f['name']}{f['index']}: "
                  f"{f['server']!r}, PyTorch {f['pytorch']!r}; {f['differing']:,} of {f['of']:,} differ")
        if r["differing_values"] > len(r["found"]):
            print(f"    ... {r['differing_values']} values in all")
        if r["length"] in ACCEPTANCE_LENGTHS and not r.get("replaced"):
            self.accepted.setdefault((r["model"], r["numerics"]), {}).setdefault(r["length"], r["watched"])

    def acceptance(self, checks):
        """The table of the values people look at first."""
        for (model, numerics), lengths in self.accepted.items():
            if model not in ACCEPTANCE_MODELS or not set(ACCEPTANCE_LENGTHS) <= set(lengths):
                continue
            print(f"\n{model}, {numerics}, prefill: greatest absolute difference (differing elements)")
            print(f"{'':<22}" + "".join(f"{f'{n} token' + 's' * (n > 1):>28}" for n in ACCEPTANCE_LENGTHS))
            for name, path in ACCEPTANCE:
                cells = (lengths[n].get(path) for n in ACCEPTANCE_LENGTHS)
                print(f"{name:<22}" + "".join(
                    f"{f'{c[0]:.2e} ({c[1]} of {c[2]:,})' if c else 'missing':>28}" for c in cells))
            for name in ("tokenization", "configuration", "loading"):
                print(f"{name:<22}{checks.get((model, numerics, name), 'not compared'):>28}")

    def close(self, seconds):
        print(f"\n{self.values:,} values, {self.elements:,} elements compared, {self.differing:,} differing, {seconds:.0f} s")
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed or not self.passed else 0


# ---- running ----

def run_numerics(numerics, jobs, report, checks):
    """Runs a plan in a process of its own and reports as it goes."""
    worker = subprocess.Popen([sys.executable, os.path.join(HERE, "live.py")], cwd=HERE, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=reference.environment(numerics))
    json.dump({"numerics": numerics, "jobs": jobs}, worker.stdin)
    worker.stdin.close()
    ended = False
    for line in worker.stdout:
        r = json.loads(line)
        ended = ended or r["kind"] == "end"
        if r["kind"] == "check":
            checks[r["model"], numerics, r["name"]] = r["text"]
        report.add(r)
    if worker.wait() or not ended:
        print(f"{numerics}: the process ended with status {worker.returncode}")
        report.count(False)


def find_folders(jobs, report):
    """Gives each job its folder; one whose model cannot be had is skipped, with the reason."""
    out = []
    for j in jobs:
        folder, why = models.find(j["model"])
        if folder:
            out.append({**j, "folder": folder})
        else:
            print(f"{j['model']:<22} skip: {why}")
            report.count(None)
    return out


def compare(arguments):
    started, report, checks = time.monotonic(), Report(), {}
    jobs = plan(arguments)
    if arguments.only:
        jobs = [j for j in jobs if j["model"] in arguments.only.split(",")]
    jobs = find_folders(jobs, report)
    for numerics in reference.NUMERICS if arguments.numerics is None else [arguments.numerics]:
        why = reference.why_not(numerics)
        if why:
            print(f"{'':<22} {numerics:<22} skip: {why}")
            report.count(None)
        else:
            run_numerics(numerics, jobs, report, checks)
    report.acceptance(checks)
    return report.close(time.monotonic() - started)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="the small models and a few prompts: minutes")
    p.add_argument("--full", action="store_true", help="also a real model of 1.5 billion parameters")
    p.add_argument("--acceptance", action="store_true", help="only what the acceptance table needs")
    p.add_argument("--golden", action="store_true", help="record golden/*.json from PyTorch")
    p.add_argument("--only", help="names of models, comma separated")
    p.add_argument("--numerics", choices=reference.NUMERICS)
    arguments = p.parse_args()
    if arguments.golden:
        import golden

        return golden.record(arguments.only.split(",") if arguments.only else None)
    return compare(arguments)


if __name__ == "__main__":
    sys.exit(main())
