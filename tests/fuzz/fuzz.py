#!/usr/bin/env python3
"""Runs every target of a fuzzing build in turn and closes with a table; exit status 1 when one found something.

    python tests/fuzz/fuzz.py --build build/fuzz --minutes 30 [--only NAME]

What is new to coverage is kept in BUILD/corpus/NAME, what ends a target in BUILD/found/NAME-*.
"""
import argparse
import glob
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def last(pattern, text, otherwise="0"):
    found = re.findall(pattern, text)
    return found[-1] if found else otherwise


def run(build, name, seconds):
    grown, found = os.path.join(build, "corpus", name), os.path.join(build, "found")
    os.makedirs(grown, exist_ok=True)
    os.makedirs(found, exist_ok=True)
    before = set(os.listdir(found))
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run([os.path.join(build, "tests", "fuzz", name), f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000",
                           "-max_len=20000", "-print_final_stats=1", f"-artifact_prefix={found}/{name}-", grown,
                           os.path.join(HERE, "corpus", name)], capture_output=True, env=environment, check=False)
    text = done.stderr.decode(errors="replace")
    new = sorted(set(os.listdir(found)) - before)
    if done.returncode and not new:
        print(text[-3000:])
    return (last(r"stat::number_of_executed_units: (\d+)", text), last(r"stat::average_exec_per_sec: +(\d+)", text),
            last(r"cov: (\d+)", text), done.returncode, new)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build/fuzz")
    p.add_argument("--minutes", type=float, default=30)
    p.add_argument("--only", default="")
    a = p.parse_args()
    names = [os.path.basename(f) for f in sorted(glob.glob(os.path.join(HERE, "corpus", "*"))) if a.only in os.path.basename(f)]
    seconds = max(1, int(a.minutes * 60 / len(names)))
    print(f"{'target':<14}{'seconds':>8}{'executions':>12}{'a second':>10}{'edges':>8}  found")
    bad = 0
    for name in names:
        executions, rate, edges, status, new = run(a.build, name, seconds)
        bad |= status != 0
        print(f"{name:<14}{seconds:>8}{int(executions):>12,}{int(rate):>10,}{int(edges):>8,}  {', '.join(new) or ('nothing' if not status else f'status {status}')}",
              flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
