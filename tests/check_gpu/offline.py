#!/usr/bin/env python3
"""Proves the bundle where it has to work: in a minimal Debian without network, compiler or development packages.

    offline.py --cache FOLDER --emulated BUNDLE [--device BUNDLE --standins FOLDER] [--kills N] [--seed N]

The emulated bundle runs from start to report, then is killed at random seconds, after each of which the report
must hold every row that was shown.  A bundle for a real GPU runs with stand-ins for the GPU's libraries, which
compute nothing: all of its programs must start, and no comparison may find equal bits.
"""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KILLED_BY = 120  # seconds: by then several sections have told rows
COUNTING = ("tiny", "models", "ops", "gemm")  # sections whose rows compare bits
HOSTS = ("torch-cpu rotary",)  # rows of a table that the host makes
ROW = re.compile(r"^([a-z]+) +(\S.*?) +(equal|differs|info|skipped|failed)\b")


def run(settings, bundle, out, kill=None, standins=None, arguments=()):
    """What it showed, and the seconds that it took."""
    environment = os.environ | ({"KILL": f"{kill:.1f}"} if kill else {}) | ({"STANDINS": standins} if standins else {})
    started = time.monotonic()
    with open(os.path.join(out, "shown"), "w+", encoding="utf-8") as shown:
        subprocess.run([os.path.join(HERE, "offline.sh"), settings.cache, bundle, out, *arguments], stdin=subprocess.DEVNULL,
                       stdout=shown, stderr=subprocess.STDOUT, env=environment)
        shown.seek(0)
        return shown.read(), time.monotonic() - started


def rows_shown(text):
    return sum(bool(ROW.match(line)) for line in text.splitlines())


def read_report(out):
    with open(os.path.join(out, "check_gpu.json"), encoding="utf-8") as file:
        return json.load(file)


class Proof:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, true, why=""):
        self.passed, self.failed = self.passed + bool(true), self.failed + (not true)
        print(f"{'ok' if true else 'FAILED'}: {what}{'' if true else f': {why}'}", flush=True)


def tell(found):
    for section, seconds in found["seconds"].items():
        verdicts = [r["verdict"] for r in found["rows"] if r["section"] == section]
        print(f"  {section:10} {seconds:7.1f} s  " + ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts))))


def from_start_to_report(settings, proof):
    """Returns the seconds."""
    with tempfile.TemporaryDirectory() as out:
        text, seconds = run(settings, settings.emulated, out, arguments=["--seconds", "3600"])  # the emulator is slow
        try:
            found = read_report(out)
        except OSError:
            proof.check("an emulated bundle reports", False, text[-2000:])
            return 0
        tell(found)
        bad = [r for r in found["rows"] if r["verdict"] in ("failed", "differs")]
        proof.check(f"an emulated bundle, from start to report: {len(found['rows'])} rows in {seconds:.0f} s",
                    not bad and len(found["rows"]) > 50, bad[:3] or text[-2000:])
        proof.check("every row was shown", rows_shown(text) == len(found["rows"]), rows_shown(text))
    return seconds


def killed(settings, proof, most):
    chance = random.Random(settings.seed)
    for _ in range(settings.kills):
        second = chance.uniform(5, min(most, KILLED_BY))
        with tempfile.TemporaryDirectory() as out:
            text, _ = run(settings, settings.emulated, out, kill=second, arguments=["--seconds", "3600"])
            try:
                rows = len(read_report(out)["rows"])
            except OSError:
                rows = 0
            shown = rows_shown(text)
            # between a row's showing and its writing
            proof.check(f"killed at {second:.1f} s: {rows} rows in the report, {shown} shown", 0 <= shown - rows <= 1, text[-500:])


def with_standins(settings, proof):
    with tempfile.TemporaryDirectory() as out:
        text, seconds = run(settings, settings.device, out, standins=settings.standins)
        try:
            found = read_report(out)
        except OSError:
            proof.check("a bundle for a GPU reports", False, text[-2000:])
            return
        tell(found)
        rows = found["rows"]
        proof.check(f"a bundle for a GPU on a device that computes nothing, from start to report: {len(rows)} rows in {seconds:.0f} s",
                    len(rows) > 30 and "error while loading" not in text, text[-2000:])
        equal = [r["name"] for r in rows if r["section"] in COUNTING and r["verdict"] == "equal" and r["name"] not in HOSTS]
        proof.check("nothing is equal there", not equal, equal)
        wrong = [r["name"] for r in rows if r["section"] == "ops" and r["name"].startswith("torch-cpu") and r["verdict"] == "differs"]
        proof.check(f"{len(wrong)} operations differ there", len(wrong) >= 10, [r for r in rows if r["section"] == "ops"][:3])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cache", required=True)
    p.add_argument("--emulated", required=True)
    p.add_argument("--device")
    p.add_argument("--standins")
    p.add_argument("--kills", type=int, default=5)
    p.add_argument("--seed", type=int, default=int(time.time()))
    settings, proof = p.parse_args(), Proof()
    if os.geteuid():
        print("skip: only root can enter another root\n0 passed, 0 failed, 1 skipped")
        return 0
    seconds = from_start_to_report(settings, proof)
    if seconds:
        killed(settings, proof, seconds)
    if settings.device:
        with_standins(settings, proof)
    print(f"{proof.passed} passed, {proof.failed} failed, {0 if settings.device else 1} skipped")
    return 1 if proof.failed else 0


if __name__ == "__main__":
    sys.exit(main())
