#!/usr/bin/env python3
"""Whether nvcc fused in the kernels of torch-cuda what it fuses in PyTorch's own build, and nothing else.

    sass_aten.py --cuobjdump PROGRAM FOLDER        FOLDER: of aten's objects (build/cuda/obj/kernels/cuda/aten)

Follows each exponential's last factor (MUFU.EX2) to the instruction that reads it: a product that is rounded (FMUL) or
one that is fused with a sum (FFMA).  Counts alone would not tell them apart.  Prints a line for each kernel and
architecture; fails when one is not as it should be, or is missing.
"""
import argparse
import os
import re
import subprocess
import sys

INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]


def kernels(text):
    """{(kernel, architecture): [(opcode, operands)]} of what cuobjdump -sass says."""
    found, architecture, at = {}, None, None
    for line in text.splitlines():
        if match := re.match(r"arch = (sm_\w+)", line):
            architecture = match[1]
        elif match := re.match(r"\s+Function : _Z\d+([a-z_]+_kernel)", line):
            at = found.setdefault((match[1], architecture), [])
        elif at is not None and (match := INSTRUCTION.match(line)):
            operands = [operand.strip().removesuffix(".reuse") for operand in match[2].split(",")]
            at.append((match[1], operands))
    return found


def names(code, opcode):
    return [i for i, (name, _) in enumerate(code) if name == opcode or name.startswith(opcode + ".")]


def reader(code, at):
    """The instruction that first reads what the one at `at` writes, through plain moves."""
    register = code[at][1][0]
    for name, operands in code[at + 1:]:
        if any(operand.lstrip("-|") == register for operand in operands[1:]):
            return name, operands
    return None, []


def is_one(operand):
    return operand in ("1", "1.0")


def mean(code):
    """Additions and products, all apart; one reciprocal root."""
    return not names(code, "FFMA") and len(names(code, "MUFU.RSQ")) == 1 and not names(code, "MUFU.EX2")


def warp_softmax(code):
    """Every e is rounded before anything is done with it."""
    found = names(code, "MUFU.EX2")
    return bool(found) and all(reader(code, i)[0] == "FMUL" for i in found)


def block_softmax(code):
    """Fused into the sum, up to the first shuffle that adds; rounded for the quotient."""
    adds = names(code, "SHFL.DOWN")
    found = names(code, "MUFU.EX2")
    return bool(adds) and any(i < adds[0] for i in found) and any(i > adds[0] for i in found) and all(
        reader(code, i)[0] == ("FFMA" if i < adds[0] else "FMUL") for i in found)


def silu(code):
    """One fused multiply-add of 1."""
    found = names(code, "MUFU.EX2")
    name, operands = reader(code, found[0]) if len(found) == 1 else (None, [])
    return name == "FFMA" and is_one(operands[-1])


def rotary(code):
    """No sine or cosine of the hardware's."""
    return not names(code, "MUFU.SIN") and not names(code, "MUFU.COS") and bool(names(code, "FFMA"))


EXPECTED = [("rms_norm", "rms_norm_kernel", mean), ("softmax", "softmax_warp_kernel", warp_softmax),
            ("softmax", "softmax_block_kernel", block_softmax), ("activations", "silu_kernel", silu),
            ("rotary", "rotary_kernel", rotary)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuobjdump", default="cuobjdump")
    parser.add_argument("folder")
    arguments = parser.parse_args()
    failed = 0
    for source, kernel, check in EXPECTED:
        path = os.path.join(arguments.folder, source + ".cu.o")
        text = subprocess.run([arguments.cuobjdump, "-sass", path], check=True, capture_output=True, text=True).stdout
        found = kernels(text)
        for architecture in ARCHITECTURES:
            code = found.get((kernel, architecture))
            verdict = "missing" if not code else "ok" if check(code) else f"not so: {check.__doc__}"
            failed += verdict != "ok"
            counts = {name: len(names(code or [], name)) for name in ("FADD", "FMUL", "FFMA", "MUFU.EX2")}
            print(f"{kernel:24} {architecture:7} {verdict:8}", *(f"{n} {c}" for n, c in counts.items()), sep="  ")
    print(f"{len(EXPECTED) * len(ARCHITECTURES) - failed} as in PyTorch's build, {failed} not")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
