#!/usr/bin/env python3
"""gcc's -fanalyzer and clang's analyzer over server, client and kernels/base: reports that are not explained below are faults.

    python tests/analyze.py [--jobs 2] [--only TEXT] [--gcc gcc] [--clang clang]

An analyzer that is not installed is skipped, and said.  What is known to be wrong in a report stands in EXPLAINED with the reason; an
explanation that no report needs any more is a fault too (with --only it is not looked at).
"""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-I.", "-O1", "-w"]
# (file, part of the words, why it is none)
TABLE = "it lies in a table whose owner frees it, also after an error"
KNOWN_ERROR = "error_set gives -1, which the analyzer does not see from there"
EXPLAINED = [
    ("client/cli_common.c", "NULL ‘name’", "the name is NULL only where a letter is looked for"),
    ("client/dump_arrays.c", "leak of", TABLE), ("client/side.c", "leak of", TABLE), ("client/understand.c", "leak of", TABLE),
    ("client/understand.c", "dereference of NULL ‘taken’", KNOWN_ERROR),
    ("kernels/base/safetensors.c", "*s.entries", "none are sorted where there are none"),
    ("server/engine/drivers.c", "leak of", "a seat is in its driver's list until it is freed there"),
    ("server/engine/program.c", "leak of", TABLE), ("server/engine/run_names.c", "leak of", TABLE),
    ("server/http/logits.c", "possibly-NULL ‘list’", "the loop's head asks for it"),
    ("server/http/logits.c", "leak of", "the work's writer frees its state, also one that is half made"),
    *[(f"server/model/{name}.c", "leak of", TABLE) for name in ("family", "family_attention", "family_attr", "family_labels", "generation_config")],
    ("server/engine/run.c", "leak of", "run_free has what a run holds, also one that is half made"),
    ("server/engine/run.c", "NULL ‘*r.state’", KNOWN_ERROR), ("server/engine/isolate.c", "leak of", TABLE), ("server/engine/isolate_arrays.c", "dereference of NULL", KNOWN_ERROR),
]
CLANG = ["-Xclang", "-analyzer-checker=core,unix,deadcode,security.insecureAPI.UncheckedReturn,security.FloatLoopCounter,nullability",
         "-Xclang", "-analyzer-disable-checker=deadcode.DeadStores", "-Xclang", "-analyzer-output=text"]


def sources():
    return sorted(glob.glob("server/**/*.c", recursive=True) + glob.glob("client/*.c") + glob.glob("kernels/base/*.c"))


def command(tool, path):
    if tool.startswith("gcc") or tool.endswith("gcc"):
        return [tool, *FLAGS[:-1], "-fanalyzer", "-fdiagnostics-plain-output", "-c", path, "-o", os.devnull]
    return [tool, *FLAGS, "--analyze", *CLANG, path, "-o", os.devnull]


def look(tool, path):
    """Reports: (path, line, words)."""
    done = subprocess.run(command(tool, path), cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"^(\S+?):(\d+):\d+: warning: (.*)$", done.stderr, re.M)
    found = [(p, int(line), words) for p, line, words in found if "gcc" not in tool or "-Wanalyzer" in words]
    if done.returncode and not found:
        found = [(path, 0, f"{tool} ended with {done.returncode}: {done.stderr[-300:]}")]
    return sorted(set(found))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--only", default="")
    p.add_argument("--gcc", default="gcc")
    p.add_argument("--clang", default="clang")
    a = p.parse_args()
    os.chdir(ROOT)
    bad, needed = 0, set()
    for tool in (a.gcc, a.clang):
        if not shutil.which(tool):
            print(f"skip: {tool} is not installed")
            continue
        files = [f for f in sources() if a.only in f]
        explained = 0
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            for reports in pool.map(lambda f, t=tool: look(t, f), files):
                for path, line, words in reports:
                    known = next((e for e in EXPLAINED if e[0] == path and e[1] in words), None)
                    needed.add(known)
                    explained += known is not None
                    bad += known is None
                    if known is None:
                        print(f"{path}:{line}: {words} ({tool})", flush=True)
        print(f"{tool}: {len(files)} files, {explained} reports that are explained", flush=True)
    for e in [] if a.only else [e for e in EXPLAINED if e not in needed]:
        bad += 1
        print(f"{e[0]}: nothing says '{e[1]}' any more: take its explanation away")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
