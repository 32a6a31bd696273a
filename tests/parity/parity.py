#!/usr/bin/env python3
"""Compares samebitd with PyTorch, live, bit by bit.

    parity.py [--quick | --full] [--acceptance] [--only MODEL,...]
              [--numerics NAME] [--attention NAME]
    parity.py --golden             records golden/<attention>/*.json from PyTorch alone

For each model, numerics, attention and number of threads the server runs the prompts, and every value it
knows, of prefill and of every cached decode step, is compared with the same value in PyTorch: 0
differing bits are allowed, no value may lack a reference, and no reference a value.  A prompt is
fed at once, in calls (128+100+72), or behind left padding (pad 7; with several numbers a batch in
PyTorch, and each of its rows alone in samebit).  Ends with the
line `N passed, N failed, N skipped`; the exit status is 0 only when none failed.
"""
import argparse
import glob
import json
import os
import subprocess
import sys
import time

import daemon
import mirror_lines
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

def plain(*lengths_and_steps):
    return [{"length": length, "steps": steps} for length, steps in lengths_and_steps]


def chunked(steps, *chunks):
    """A prompt in several calls on one cache."""
    return [{"length": sum(chunks), "steps": steps, "chunks": list(chunks)}]


def padded(length, steps, *padding, chunks=None):
    """Left padding: of a row alone, or of each row of a batch."""
    return [{"length": length, "steps": steps, "padding": list(padding), "chunks": chunks}]


def job(name, eager, sdpa=None, fewer=None, threads=(2, 1), replace=False, once=True):
    """Cases with the first number of threads, under each attention (sdpa None: eager's); fewer: with
    the others (None: all).  once: also what is compared once a model."""
    cases = {"eager": eager, "sdpa": sdpa or eager}
    return {"model": name, "cases": cases, "fewer": {a: fewer or cases[a] for a in cases}, "threads": list(threads),
            "prove": plain((5, 2)) + chunked(1, 3, 2) + padded(5, 1, 0, 2), "watch": [path for _, path in ACCEPTANCE],
            "replace": (plain((5, 2)) + chunked(1, 3, 2)) * replace, "once": once}


SMALL_CHUNKS = chunked(2, 9, 1, 2, 3, 6)
SMALL_PADS = padded(9, 2, 4) + padded(21, 3, 0, 5, 13) + padded(14, 2, 6, chunks=[3, 4, 7])
CHUNKS = chunked(8, 128, 100, 72) + chunked(4, 40, 1, 2, 3, 64) + chunked(2, 1, 1, 16)
PADS = padded(300, 4, 100) + padded(64, 8, 0, 30, 63) + padded(70, 4, 20, chunks=[10, 20, 40]) + padded(5, 32, 1, 4)
# The cache slides where no mask does: one call or several, and steps beyond the window.
SLIDING = plain((1, 12), (5, 8), (17, 8)) + chunked(4, 9, 1, 2, 3, 6) + padded(9, 4, 4)
# Prompts below and beyond the length at which a rope changes (20), and steps across it.
ROPES = plain((17, 8), (64, 4))
REPLACING = ("tiny-qwen2", "tiny-qwen3", "tiny-llama", "tiny-mistral")


def plan(arguments):
    if arguments.acceptance:
        lengths = plain(*((n, 0) for n in ACCEPTANCE_LENGTHS))
        return [job(name, lengths, threads=(2,)) for name in ACCEPTANCE_MODELS]
    tiny = models.tiny_names()
    variants = [job(name, SLIDING, threads=(2,), once=False) for name in models.VARIANTS if name.startswith("tiny-")]
    if arguments.quick:
        small = plain((1, 24), (2, 4), (5, 4), (17, 8), (64, 4)) + SMALL_CHUNKS + SMALL_PADS
        large = small + plain((300, 1), (513, 1))
        real = plain((1, 4), (5, 2), (17, 4))
        return [job(name, small, large, plain((1, 4), (17, 8)), replace=name in REPLACING) for name in tiny] + variants + [
            job("smollm2-135m", real, real + chunked(1, 9, 1, 3) + padded(9, 1, 4), plain((5, 2)))]
    deep = plain((1, 32), (2, 8), (5, 8), (17, 32), (64, 8), (300, 8))
    long = plain((513, 4), (800, 4))
    rest = CHUNKS + PADS
    whole = plain(*((c["length"], 32) for c in deep)) + rest + SMALL_CHUNKS + SMALL_PADS
    # More than 1024 keys: one more block of the sums over keys.
    jobs = [job(name, whole + many, whole + long + many, replace=name in REPLACING)
            for name in tiny for many in [plain((1100, 2)) * (name in REPLACING)]]
    jobs += variants
    fewer = plain((1, 8), (17, 32), (300, 2))
    jobs.append(job("smollm2-135m", deep + rest, deep + long + rest, fewer, replace=True))
    jobs.append(job("qwen2.5-0.5b-random", deep + rest, deep + long + rest, fewer))
    if arguments.full:
        jobs += [job(name, ROPES, threads=(2,), once=False) for name in models.VARIANTS if name.startswith("qwen2.5-0.5b-")]
        jobs.append(job("qwen2.5-coder-1.5b", deep, deep + long, plain((1, 8), (17, 8))))
    return jobs


# ---- printing ----

class Report:
    """The table, and the counts of it."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.values = self.elements = self.differing = 0
        self.accepted = {}
        print(f"{'model':<20} {'numerics':<31} {'attention':<9} threads {'prompt':>15} steps  {'values':>7} "
              f"{'elements':>13} {'differing':>9}")

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
            print(f"{r['model']:<20} {r['numerics']:<31} {r['attention']:<9} {r['threads'] or '':>7} "
                  f"{r['name']}: {mark}{r['text']}")
        sys.stdout.flush()

    def _row(self, r):
        self.count(r["passed"])
        self.values += r["values"]
        self.elements += r["elements"]
        self.differing += r["differing"]
        note = f"  replaced {r['replaced']}" if r.get("replaced") else ""
        note += "" if r["passed"] else "  FAILED"
        print(f"{r['model']:<20} {r['numerics']:<31} {r['attention']:<9} {r['threads']:>7} {r['prompt']:>15} "
              f"{r['steps']:>5}  {r['values']:>7,} {r['elements']:>13,} {r['differing']:>9,}{note}")
        for text in r["problems"]:
            print(f"    {text}")
        for i, f in enumerate(r["found"]):
            print(f"    {'first difference: ' if i == 0 else 'then '}{f['name']}{f['index']}: "
                  f"{f['server']!r}, PyTorch {f['pytorch']!r}; {f['differing']:,} of {f['of']:,} differ")
        if r["differing_values"] > len(r["found"]):
            print(f"    ... {r['differing_values']} values in all")
        if r["prompt"] in map(str, ACCEPTANCE_LENGTHS) and not r.get("replaced"):
            lengths = self.accepted.setdefault((r["model"], r["numerics"], r["attention"]), {})
            lengths.setdefault(int(r["prompt"]), r["watched"])

    def acceptance(self, checks):
        """The table of the values people look at first."""
        for (model, numerics, attention), lengths in self.accepted.items():
            if model not in ACCEPTANCE_MODELS or not set(ACCEPTANCE_LENGTHS) <= set(lengths):
                continue
            print(f"\n{model}, {numerics}, {attention}, prefill: greatest absolute difference (differing elements)")
            print(f"{'':<22}" + "".join(f"{f'{n} token' + 's' * (n > 1):>28}" for n in ACCEPTANCE_LENGTHS))
            for name, path in ACCEPTANCE:
                if attention == "sdpa" and path.endswith("self_attn.weights"):
                    continue  # sdpa has none
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
            print(f"{j['model']:<20} skip: {why}")
            report.count(None)
    return out


def check_lines(report):
    """The source lines of transformers that the families cite."""
    for family, wrong in mirror_lines.checks():
        print(f"{family + '.json':<20} source lines: {'FAILED: ' + '; '.join(wrong) if wrong else 'as cited'}")
        report.count(not wrong)


def recorded(numerics):
    """How many models and calls the golden files hold of a numerics."""
    names, calls = set(), 0
    for path in glob.glob(os.path.join(HERE, "golden", "**", "*.json"), recursive=True):
        with open(path, encoding="utf-8") as file:
            parts = json.load(file)["numerics"]
        for part in (part for key, part in parts.items() if key.split(" ")[0] == numerics):
            names.add(os.path.basename(path))
            calls += sum(len(run["calls"]) for run in part["runs"] + part["sweeps"])
    return len(names), calls


def say_of(numerics, why, report):
    """live, recorded or skipped, and why."""
    models_, calls = recorded(numerics)
    kept = f"recorded: {calls:,} calls of {models_} models, which test_golden*.py compare" if models_ else "skipped"
    print(f"{numerics:<31} {f'{kept} ({why})' if why else 'live'}")
    if why:
        report.count(None)


def said_of(numerics):
    """Whether samebitd, in the environment in which PyTorch computes a numerics, says so, and this very torch agrees."""
    done = subprocess.run([daemon.BINARY, "--which-numerics", "--python", sys.executable], cwd=daemon.ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=reference.environment(numerics))
    said = done.stdout.split("\n")[0]
    right = said.split(" ")[0] == numerics and done.returncode == 0
    return right, f"samebitd --which-numerics --python: {said}, {'agreed' if done.returncode == 0 else done.stdout}"


def compare(arguments):
    started, report, checks = time.monotonic(), Report(), {}
    check_lines(report)
    jobs = plan(arguments)
    if arguments.only:
        names, known = arguments.only.split(","), sorted({j["model"] for j in jobs})
        unknown = [n for n in names if n not in known]
        if unknown:
            sys.exit(f"parity.py: --only: no model {', '.join(unknown)} in this set; there are {', '.join(known)}")
        jobs = [j for j in jobs if j["model"] in names]
    jobs = find_folders(jobs, report)
    attentions = [arguments.attention] if arguments.attention else reference.ATTENTIONS
    jobs = [{**j, "attentions": attentions} for j in jobs]
    for numerics in [arguments.numerics] if arguments.numerics else reference.NUMERICS:
        why = reference.why_not(numerics)
        say_of(numerics, why, report)
        if not why:
            right, text = said_of(numerics)
            report.add({"kind": "check", "model": "-", "numerics": numerics, "attention": "", "threads": 0,
                        "name": "this machine", "passed": right, "text": text})
            run_numerics(numerics, jobs, report, checks)
    report.acceptance(checks)
    return report.close(time.monotonic() - started)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="the small models and a few prompts: minutes")
    p.add_argument("--full", action="store_true", help="also a real model of 1.5 billion parameters")
    p.add_argument("--acceptance", action="store_true", help="only what the acceptance table needs")
    p.add_argument("--golden", action="store_true", help="record golden/<attention>/*.json from PyTorch")
    p.add_argument("--only", help="names of models, comma separated")
    p.add_argument("--numerics", choices=reference.NUMERICS)
    p.add_argument("--attention", choices=reference.ATTENTIONS)
    arguments = p.parse_args()
    if arguments.golden:
        import golden

        return golden.record(arguments.only.split(",") if arguments.only else None,
                             [arguments.attention] if arguments.attention else None)
    return compare(arguments)


if __name__ == "__main__":
    sys.exit(main())
