#!/usr/bin/env python3
"""Runs the tests that are not slow and closes with one line: N passed, N failed, N skipped.

    python tests/run.py --build build [--only TEXT] [--slow] [--log FILE] [--emulator COMMAND]

The cmocka binaries of BUILD/tests and, with pytest, every folder of tests/ that has test_*.py.
Each runner's own counts are read (TAP, JUnit XML); a runner that dies, hangs or counts nothing is a
failure.  --only runs those whose path contains TEXT; --log appends the closing line to a file.
--emulator runs the binaries by a command, and of the folders what it can in good time: the golden
digests.
"""
import argparse
import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECONDS = 1500  # of one runner
SPREAD = "parity"  # the folder of tests/ whose tests, long, with no timing and each with a daemon of its own, run on all cores
TAP = re.compile(r"(not ok|ok) (\d+) (?:- (.*)|# SKIP ?(.*))$")
PLAN = re.compile(r"^1\.\.(\d+)$")


class Counts:
    """passed, failed, skipped, and what went wrong."""

    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def run(command, environment):
    """Status (None: out of time) and output, both streams together."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_group(child.pid)
            child.wait()
        out.seek(0)
        return status, out.read().decode(errors="replace")


def end_group(pid):
    """What a runner started and left behind goes with it."""
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        pass


def tap_counts(status, text):
    """Of a cmocka binary's output; several groups follow one another in it."""
    counts, planned, seen, reported = Counts(), 0, 0, False
    for line in text.splitlines():
        plan, row = PLAN.match(line), TAP.search(line)
        if plan:
            planned += int(plan[1])
        elif row and int(row[2]) == 0:  # a group's setup or teardown
            counts.failed += 1
        elif row:
            seen += 1
            skipped = row[3] is None
            counts.skipped += skipped
            counts.passed += row[1] == "ok" and not skipped
            counts.failed += row[1] != "ok" and not skipped
    reported = counts.failed > 0
    counts.failed += max(0, planned - seen)
    if (status != 0 or planned == 0) and not reported and planned <= seen:
        counts.failed += 1
    return counts


def junit_counts(status, path):
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return Counts(failed=1)
    counts = Counts()
    for suite in root.iter("testsuite"):
        total, bad, skipped = (int(suite.get("tests")),
                               int(suite.get("failures")) + int(suite.get("errors")),
                               int(suite.get("skipped")))
        counts.add(Counts(max(0, total - bad - skipped), bad, skipped))
    nothing_selected = 5
    if status not in (0, nothing_selected) and counts.failed == 0:
        counts.failed = 1
    return counts


def run_binary(path, environment):
    emulator = environment.get("SAMEBIT_EMULATOR", "").split()
    status, text = run([*emulator, path], environment | {"CMOCKA_MESSAGE_OUTPUT": "TAP"})
    return status, text, tap_counts(status, text)


def run_pytest(folder, environment, arguments):
    with tempfile.TemporaryDirectory() as work:
        report = os.path.join(work, "report.xml")
        status, text = run(
            [sys.executable, "-m", "pytest", "-q", "-rs", "--tb=short", "-p", "no:cacheprovider", "--rootdir", ROOT,
             "-o", "markers=slow: takes minutes; not part of make test",
             *(["-n", str(len(os.sched_getaffinity(0))), "--dist", "worksteal"] if SPREAD in folder.split(os.sep) else []),
             "--junitxml", report, *([] if arguments.slow else ["-m", "not slow"]), folder],
            environment)
        return status, text, junit_counts(status, report)


def environment_for(build):
    """What tests find: the binaries, sanitizers told to be strict, no surprises from outside."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MAKE", "MFLAGS"))}
    environment |= {
        "SAMEBITD": os.path.join(build, "samebitd"), "SAMEBIT": os.path.join(build, "samebit"),
        "SAMEBIT_BUILD": build, "PYTHONDONTWRITEBYTECODE": "1",
        "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1:strict_string_checks=1:detect_stack_use_after_return=1:"
                        "check_initialization_order=1:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    return environment


def emulate(environment, command, folder):
    """The programs as scripts in a folder that run them by the emulator."""
    environment["SAMEBIT_EMULATOR"] = command
    for name in ("SAMEBITD", "SAMEBIT"):
        script = os.path.join(folder, name.lower())
        with open(script, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {command} {environment[name]} "$@"\n')
        os.chmod(script, 0o755)
        environment[name] = script


def make_tiny_models(environment):
    """Into the cache folder, where the tests look for them."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(os.environ.get("SAMEBIT_CACHE") or os.path.join(base, "samebit"), "tiny")
    status, text = run([sys.executable, os.path.join(ROOT, "tests/tiny/make_tiny.py"), folder], environment)
    if status != 0:
        sys.exit(f"tests/tiny/make_tiny.py failed:\n{text}")
    environment["SAMEBIT_TINY"] = folder


def report(name, status, text, counts, seconds):
    print(f"{name}: {counts} ({seconds:.1f} s)")
    if counts.failed:
        print("\n".join("    " + line for line in text.strip().splitlines()[-200:]))
        ended = "ran out of time" if status is None else f"ended with status {status}"
        print(f"    {name} {ended}")
    else:
        for line in text.splitlines():
            if re.search(r"^SKIPPED|# SKIP|^skip: ", line):
                print("    " + line)
    sys.stdout.flush()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--only", default="")
    p.add_argument("--slow", action="store_true")
    p.add_argument("--log")
    p.add_argument("--emulator", metavar="COMMAND")
    arguments = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the runner too
    build = os.path.join(ROOT, arguments.build)
    environment = environment_for(build)
    make_tiny_models(environment)
    scripts = tempfile.TemporaryDirectory()
    if arguments.emulator:
        emulate(environment, arguments.emulator, scripts.name)

    # a binary whose source is gone is from an older build
    binaries = [b for b in sorted(glob.glob(os.path.join(build, "tests", "*", "test_*")))
                if any(os.path.exists(os.path.join(ROOT, os.path.relpath(b, build) + end)) for end in (".c", ".cu"))]
    folders = sorted({os.path.dirname(f) for f in glob.glob(os.path.join(ROOT, "tests", "*", "test_*.py"))})
    if arguments.emulator:
        folders = [os.path.join(ROOT, "tests", "parity", "test_golden.py")]
    runners = [(b, lambda path: run_binary(path, environment)) for b in binaries]
    runners += [(f, lambda path: run_pytest(path, environment, arguments)) for f in folders]

    total = Counts()
    for path, runner in runners:
        name = os.path.relpath(path, ROOT)
        if arguments.only in name:
            started = time.monotonic()
            status, text, counts = runner(path)
            total.add(counts)
            report(name, status, text, counts, time.monotonic() - started)
    print(total)
    if arguments.log:
        with open(arguments.log, "a", encoding="utf-8") as file:
            print(total, file=file)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
