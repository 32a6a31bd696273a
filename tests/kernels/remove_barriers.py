#!/usr/bin/env python3
"""Removes each barrier and warp primitive of the kernels in turn: does a test notice?

    remove_barriers.py --build build/emulated [--only TEXT] [--list]

In a copy of the tree each __syncthreads and __syncwarp becomes nothing, each shuffle its own lane's
value, each vote its own predicate; the tests of the emulated device (BUILD/tests/*/test_cuda_*) are
built again and run in several orders of threads, first what noticed another site of the same file.
What no test notices must be a row of redundant_barriers.txt, which says why it is there
nevertheless:

    kernels/cuda/softmax.cu row_sum __syncthreads 2: the next launch waits anyhow

that is file, function, primitive, the how manieth of that name in the function, and the reason.
Closes with one line: N passed, N failed, N skipped; --only TEXT takes sites whose row contains TEXT.
"""
import argparse
import collections
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ORDERS = ["forward", "reverse", "2", "3", "4", "5"]
PRIMITIVE = re.compile(r"\b(__syncthreads(?:_count|_or|_and)?|__syncwarp|__shfl(?:_up|_down|_xor)?_sync"
                       r"|__ballot_sync|__any_sync|__all_sync)\s*\(")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.S)
FUNCTION = re.compile(r"^(?![}#/\s])[^;{}]*?\b(\w+)\(", re.M)

# only: a pattern of names, of which a test that takes none makes nothing
Run = collections.namedtuple("Run", "test order only", defaults=("*",))
Site = collections.namedtuple("Site", "path function primitive number start end instead line")


def blank_comments(text):
    """The same length, nothing in comments and strings."""
    return COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def arguments_of(text, start):
    """Of the call whose parenthesis opens before `start`: its arguments, and where it ends."""
    depth, begin, found = 0, start, []
    for i in range(start, len(text)):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}" and depth:
            depth -= 1
        elif depth == 0 and text[i] in ",)":
            found.append(text[begin:i].strip())
            begin = i + 1
            if text[i] == ")":
                return found, i + 1
    raise ValueError("a call without an end")


def replacement(primitive, arguments):
    if primitive in ("__syncthreads", "__syncwarp"):
        return "((void)0)"
    if primitive.startswith("__shfl"):
        return f"({arguments[1]})"
    return f"(({arguments[0] if primitive.startswith('__syncthreads') else arguments[1]}) != 0)"


def sites_of(path, text):
    """Every barrier and warp primitive of a file, in order."""
    code, sites, numbers = blank_comments(text), [], collections.Counter()
    named = re.sub(r"__launch_bounds__\s*\([^)]*\)", lambda m: " " * len(m[0]), code)
    for m in PRIMITIVE.finditer(code):
        before = [f[1] for f in FUNCTION.finditer(named[:m.start()])]
        function = before[-1] if before else "?"
        arguments, end = arguments_of(code, m.end())
        numbers[function, m[1]] += 1
        sites.append(Site(path, function, m[1], numbers[function, m[1]], m.start(), end,
                          replacement(m[1], arguments), text.count("\n", 0, m.start()) + 1))
    return sites


def row(site):
    return f"{site.path} {site.function} {site.primitive} {site.number}"


def read_redundant(path):
    """{row: reason}."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    return {line.split(": ", 1)[0]: line.split(": ", 1)[1] for line in lines}


def copy_tree(root, build, target):
    """Sources and one build folder, with their times, so that make builds what a change asks for."""
    shutil.copytree(root, target, symlinks=True, ignore=lambda folder, names: {
        n for n in names if n in (".git", "__pycache__") or (folder == root and n == "build")})
    shutil.copytree(os.path.join(root, build), os.path.join(target, build), symlinks=True)


def run_quietly(command, seconds, **more):
    """Whether it ended well in time; its output."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                 start_new_session=True, **more)
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        return status == 0, out.read().decode(errors="replace") + ("" if status is not None else "\nout of time\n")


class Tree:
    """The copy that is changed and tested."""

    def __init__(self, root, build, target):
        self.root, self.build = target, build
        copy_tree(root, build, target)
        names = sorted(glob.glob(os.path.join(root, "tests", "*", "test_cuda_*.c"))
                       + glob.glob(os.path.join(root, "tests", "*", "test_cuda_*.cu")))
        self.noticed = collections.defaultdict(list)  # by a file: runs that failed, the last one first
        self.tests = [os.path.join(build, os.path.splitext(os.path.relpath(n, root))[0]) for n in names]

    def make(self):
        return run_quietly(["make", "CUDA=emulated", *self.tests], 1800, cwd=self.root)

    def fails(self, run, seconds):
        """Where it fails, to be run again, and what was said last; None: it passes."""
        fine, said = run_quietly([os.path.join(self.root, run.test), run.only], seconds, cwd=self.root,
                                 env=os.environ | {"SAMEBIT_EMULATED_ORDER": run.order,
                                                   "CMOCKA_TEST_ABORT": "1"})  # one failure is enough
        if fine:
            return None
        lines = re.findall(r".*emulated CUDA.*|\[ RUN .*|.*FAILED.*|.*out of time.*", said)
        said_of_it = [x for x in lines if "RUN" not in x] or ["fails"]
        running = [x.split("] ")[1].strip() for x in lines if "RUN" in x][-1:]
        line = " ".join([os.path.basename(run.test) + ",", f"{run.order}:", *running, said_of_it[0].strip()[:150]])
        return run._replace(only=running[0] if running else "*"), line

    def failing(self, seconds, path=None):
        """What the first test and order that fail say; None: all pass."""
        for run in [*self.noticed[path], *(Run(t, o) for o in ORDERS for t in self.tests)]:
            failure = self.fails(run, seconds)
            if failure:
                self.noticed[path] = [failure[0], *(r for r in self.noticed[path] if r != failure[0])]
                return failure[1]
        return None

    def check(self, site, seconds):
        """What notices that the site is gone; None: nothing."""
        path = os.path.join(self.root, site.path)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text[:site.start] + site.instead + text[site.end:])
            built, said = self.make()
            if not built:
                return "FAULT: does not build without it\n" + said[-2000:]
            return self.failing(seconds, site.path)
        finally:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)


def judge(site, noticed, redundant):
    """(whether it is as it should be, a line that says so)."""
    reason = redundant.get(row(site))
    where = f"{row(site)} (line {site.line})"
    if noticed and noticed.startswith("FAULT"):
        return False, f"{where}: {noticed}"
    if noticed:
        return not reason, f"{where}: {'listed as redundant, but ' if reason else ''}caught by {noticed}"
    return bool(reason), f"{where}: {'redundant: ' + reason if reason else 'NO TEST NOTICES'}"


def all_sites(root):
    sites = []
    for path in sorted(glob.glob(os.path.join(root, "kernels", "cuda", "**", "*.cu*"), recursive=True)):
        if "/emulated/" not in path:
            with open(path, encoding="utf-8") as file:
                sites += sites_of(os.path.relpath(path, root), file.read())
    return sites


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", required=True)
    p.add_argument("--root", default=ROOT)
    p.add_argument("--redundant", default=os.path.join(ROOT, "tests", "kernels", "redundant_barriers.txt"))
    p.add_argument("--only", default="")
    p.add_argument("--list", action="store_true")
    arguments = p.parse_args()
    root = os.path.abspath(arguments.root)
    redundant = read_redundant(arguments.redundant)
    sites = [s for s in all_sites(root) if arguments.only in row(s)]
    stale = set(redundant) - {row(s) for s in all_sites(root)}
    if arguments.list:
        print("\n".join(f"{row(s)} (line {s.line}) -> {s.instead}" for s in sites))
        return 0

    passed, failed = 0, len(stale)
    print("".join(f"{s}: listed as redundant, but not there\n" for s in sorted(stale)), end="")
    with tempfile.TemporaryDirectory() as work:
        tree = Tree(root, arguments.build, os.path.join(work, "tree"))
        built, said = tree.make()
        started = time.monotonic()
        noticed = tree.failing(600) if built else said[-2000:]
        seconds = 10 + 5 * (time.monotonic() - started)
        if noticed or not tree.tests:
            print(f"before anything is removed: {noticed or 'no tests'}\n0 passed, 1 failed, 0 skipped")
            return 1
        for site in sites:
            fine, line = judge(site, tree.check(site, seconds), redundant)
            passed, failed = passed + fine, failed + (not fine)
            print(line, flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
