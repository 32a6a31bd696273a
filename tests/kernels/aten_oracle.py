#!/usr/bin/env python3
"""Runs PyTorch's own mean and softmax kernels on the CPU, against those of numerics torch-cuda.

    aten_oracle.py --objects "A.o B.o ..." [--cxx "c++ FLAGS"] [--work DIR]

Every torch wheel, the CPU's too, ships ATen/native/cuda/Reduce.cuh and PersistentSoftmax.cuh.  They are read
from the torch that this Python has, cut down to the functions at hand, and compiled with the emulator together with
aten_oracle.cpp and the objects of an emulated build.  Prints the number of shapes and of mismatches; the
status is 0 when there are none.
"""
import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
INCLUDE = os.path.join(os.path.dirname(torch.__file__), "include")
CUDA = "ATen/native/cuda/"


def without_rocm(text):
    """The text with every condition on USE_ROCM resolved as not defined."""
    kept, conditions = [], []  # of each open #if: (is about ROCm, its branch is kept)
    for line in text.split("\n"):
        directive = re.match(r"\s*#\s*(ifdef|ifndef|if|elif|else|endif)\b(.*)", line)
        keyword = directive and directive[1]
        if keyword in ("ifdef", "ifndef", "if") and "USE_ROCM" in directive[2]:
            conditions.append((True, keyword == "ifndef" or "!defined(USE_ROCM)" in directive[2]))
            continue
        if keyword in ("else", "endif") and conditions[-1][0]:
            about, on = conditions.pop()
            if keyword == "else":
                conditions.append((about, not on))
            continue
        if keyword in ("ifdef", "ifndef", "if"):
            conditions.append((False, True))
        elif keyword == "endif":
            conditions.pop()
        if all(on for _, on in conditions):
            kept.append(line)
    return "\n".join(kept)


def read(name):
    with open(os.path.join(INCLUDE, name), encoding="utf-8") as file:
        return without_rocm(file.read())


def definition(text, start):
    """From `start` to the end of the braces that follow, and a semicolon behind them."""
    begin = text.index(start)
    at = text.index("{", begin)
    depth = 0
    while True:
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
        if depth == 0:
            return text[begin:at + (text[at:at + 1] == ";")]


def mean_source():
    reduce, operations = read(CUDA + "Reduce.cuh"), read("ATen/native/SharedReduceOps.h")
    at = operations.rindex("template", 0, operations.index("struct MeanOps {"))
    mean = definition(operations[at:], "template").replace(
        "#if defined(__CUDACC__) || defined(__HIPCC__)", "#if 1")
    shapes = "template <typename scalar_t, typename ops_t, typename index_t, typename out_scalar_t=scalar_t, " \
             "int vt0=4, int input_vec_size=vt0>\n"
    parts = [definition(reduce, start) for start in (
        "static inline int64_t div_up", "static inline int last_pow2", "C10_HOST_DEVICE static void reduce_fraction",
        "template <typename T>\nstruct mnt_wrapper {", "struct ReduceConfig {", shapes + "struct ReduceOp {",
        "template <typename scalar_t>\nint get_output_vec_size",
        "template<typename arg_t, typename scalar_t, int vt0, int input_vec_size=vt0>\nReduceConfig setReduceConfig")]
    text = "\n".join(parts).replace("extern __shared__ char shared_memory[];", "DYNAMIC_SHARED(char, shared_memory);")
    return mean + "\n" + text


def softmax_source():
    text = read(CUDA + "PersistentSoftmax.cuh")
    parts = [definition(text, start) for start in (
        "int log2_ceil", "template<typename T>\nstruct Add", "template<typename T>\nstruct Max",
        "template <typename acc_t, int WARP_BATCH, int WARP_SIZE, template<typename> class ReduceOp>",
        "template <typename input_t, typename output_t, typename acc_t, int log2_elements, bool is_log_softmax, "
        "bool is_masked, int WARP_SIZE_PARAM>\n__global__ void softmax_warp_forward")]
    return "\n".join(parts).replace("std::exp(", "expf(").replace("__global__ ", "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", required=True)
    parser.add_argument("--cxx", default="c++ -std=c++17 -D_GNU_SOURCE -O2 -mfma -ffp-contract=off -DSAMEBIT_CUDA")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        with open(os.path.join(work, "torch_kernels.h"), "w", encoding="utf-8") as file:
            file.write(f"namespace at::native {{\n{mean_source()}\n}}\nnamespace persistent {{\n{softmax_source()}\n}}\n")
        binary = os.path.join(work, "aten_oracle")
        subprocess.run([*shlex.split(arguments.cxx), "-w", "-I", ROOT, "-I", work, "-I", INCLUDE,
                        "-x", "c++", os.path.join(HERE, "aten_oracle.cpp"), "-x", "none",
                        *(os.path.abspath(o) for o in arguments.objects.split()), "-ljansson", "-lpthread", "-lm", "-o", binary],
                       check=True)
        print(f"torch {torch.__version__}: ", end="", flush=True)
        return subprocess.run([binary], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
