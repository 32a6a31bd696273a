#!/usr/bin/env python3
"""What nvcc made of the kernels: registers, spills, shared memory and size by architecture, and
whether arithmetic is fused only where the source says so.

    cuda_report.py --cuobjdump PROGRAM --expected FILE [--fused FOLDER] OBJECT...

Beside each OBJECT lies its .ptxas, what `ptxas -v` said.  FOLDER holds the same objects compiled with
--fmad=true: a kernel whose counts of FFMA, FMUL, FADD (and of doubles) differ there leaves
contraction to the compiler.  FILE says which instructions, or a STACK, a kernel must or must not have.
Closes with one line and fails when a kernel spills or is not as it should be.
"""
import argparse
import collections
import fnmatch
import os
import pathlib
import re
import subprocess
import sys

COMPILED = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
ARITHMETIC = ("FFMA", "FMUL", "FADD", "DFMA", "DMUL", "DADD")
INSTRUCTION_BYTES = 16


def ptxas_facts(text):
    """{(kernel, architecture): {registers, stack, spills, shared}} of what ptxas -v says."""
    facts, key = {}, None
    for line in text.splitlines():
        if m := COMPILED.search(line):
            key = (m[1], m[2])
            facts[key] = {"registers": 0, "stack": 0, "spills": 0, "shared": 0}
        elif key and (m := SPILLS.search(line)):
            facts[key]["stack"], facts[key]["spills"] = int(m[1]), int(m[2]) + int(m[3])
        elif key and (m := USED.search(line)):
            shared = SHARED.search(line)
            facts[key]["registers"] = int(m[1])
            facts[key]["shared"] = int(shared[1]) if shared else 0
    return facts


def sass_facts(text):
    """{(kernel, architecture): (bytes, count of each instruction)} of what cuobjdump -sass says.
    An instruction counts under its whole name (MUFU.RCP) and the first part of it (MUFU)."""
    facts, arch, key = {}, None, None
    for line in text.splitlines():
        if m := re.match(r"arch = (sm_\w+)", line):
            arch = m[1]
        elif m := re.match(r"\s+Function : (\w+)", line):
            key = (m[1], arch)
            facts[key] = [0, collections.Counter()]
        elif key and (m := INSTRUCTION.match(line)):
            facts[key][0] = max(facts[key][0], int(m[1], 16) + INSTRUCTION_BYTES)
            parts = m[2].split(".")
            facts[key][1].update({".".join(parts[:n]) for n in range(1, len(parts) + 1)})
    return facts


def fused_faults(name, plain, fused):
    """Kernels whose arithmetic is not the same with and without contraction allowed."""
    faults = []
    for key in sorted(plain.keys() & fused.keys()):
        for instruction in ARITHMETIC:
            a, b = plain[key][1][instruction], fused[key][1][instruction]
            if a != b:
                faults.append(f"{name(key[0])}, {key[1]}: {a} {instruction}, but {b} with --fmad=true: "
                              "contraction is the compiler's choice")
    if not plain.keys() & fused.keys():
        faults.append("no kernel to compare with --fmad=true")
    return faults


def read_expected(text):
    """Rows `source kernel words...`: globs, then instructions that must be there or (!) must not."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            rows.append((number, words[0], words[1], words[2:]))
    return rows


def expected_faults(rows, sass_by_source, name):
    faults = []
    for number, source, kernel, words in rows:
        found = False
        for path, sass in sass_by_source.items():
            for (mangled, arch), (_, counts) in sass.items():
                if not pathlib.PurePosixPath(path).match(source) or not fnmatch.fnmatchcase(name(mangled), kernel):
                    continue
                found = True
                for word in words:
                    if (counts[word.lstrip("!")] > 0) == word.startswith("!"):
                        faults.append(f"{name(mangled)}, {arch}: {word} (expected, line {number})")
        if not found:
            faults.append(f"{source} {kernel} (expected, line {number}): there is no such kernel")
    return faults


def demangle(names):
    names = sorted(names)
    out = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True)
    # without the parameters and the namespace that nvcc wraps static kernels in
    return {m: re.sub(r"^void |\(anonymous namespace\)::", "", d)
            for m, d in zip(names, out.stdout.splitlines())}


def table(ptxas, sass, name):
    """Lines: a kernel each, registers and code bytes by architecture."""
    archs = sorted({a for _, a in ptxas}, key=lambda a: int(a[3:]))
    lines = [f"{'kernel':44}{'shared':>8}{'spills':>8}  " + "".join(f"{a:>12}" for a in archs),
             f"{'':44}{'bytes':>8}{'bytes':>8}  " + f"{'regs code':>12}" * len(archs)]
    for kernel in sorted({k for k, _ in ptxas}, key=name):
        rows = [ptxas.get((kernel, a)) for a in archs]
        cells = [f"{r['registers']:>4}{sass.get((kernel, a), [0])[0]:>8}" if r else "-" * 4
                 for r, a in zip(rows, archs)]
        present = [r for r in rows if r]
        lines.append(f"{name(kernel):44}{max(r['shared'] for r in present):>8}"
                     f"{max(r['spills'] for r in present):>8}  " + "".join(f"{c:>12}" for c in cells))
    return lines


def sass_of(cuobjdump, path):
    return sass_facts(subprocess.run([cuobjdump, "-sass", path], capture_output=True, text=True,
                                     check=True).stdout)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cuobjdump", required=True)
    p.add_argument("--expected", required=True)
    p.add_argument("--fused")
    p.add_argument("objects", nargs="+")
    arguments = p.parse_args()

    ptxas, sass, fused = {}, {}, {}
    for path in arguments.objects:
        source = re.sub(r".*/obj/|\.o$", "", path)
        sass[source] = sass_of(arguments.cuobjdump, path)
        with open(os.path.splitext(path)[0] + ".ptxas", encoding="utf-8") as file:
            ptxas[source] = ptxas_facts(file.read())
        other = os.path.join(arguments.fused or "", source + ".o")
        if arguments.fused and os.path.exists(other):
            fused[source] = sass_of(arguments.cuobjdump, other)
    name = demangle({k for facts in sass.values() for k, _ in facts}).__getitem__

    faults, kernels = [], 0
    for source in sorted(ptxas):
        if not ptxas[source]:
            continue
        kernels += len({k for k, _ in ptxas[source]})
        print(f"\n{source}{' (compared with --fmad=true)' if source in fused else ''}")
        print("\n".join(table(ptxas[source], sass[source], name)))
        faults += [f"{name(k)}, {a}: {f['spills']} bytes of spills"
                   for (k, a), f in sorted(ptxas[source].items()) if f["spills"]]
        for key, f in ptxas[source].items():
            if key in sass[source]:
                sass[source][key][1]["STACK"] = f["stack"]
        if source in fused:
            faults += fused_faults(name, sass[source], fused[source])
    with open(arguments.expected, encoding="utf-8") as file:
        faults += expected_faults(read_expected(file.read()), sass, name)
    print("".join(f"\nFAULT {fault}" for fault in faults))
    print(f"{kernels} kernels, {len({a for f in ptxas.values() for _, a in f})} architectures, "
          f"{len(fused)} sources compared with --fmad=true, {len(faults)} faults")
    return 1 if faults or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
