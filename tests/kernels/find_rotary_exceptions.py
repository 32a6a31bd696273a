"""Finds where torch.cos and torch.sin of a float32, scaled and rounded to bf16 as the rotary embeddings
of transformers scale and round them, are not what the correctly rounded functions give.

    python tests/kernels/find_rotary_exceptions.py SCALE ... > kernels/rotary_scaled.inc

Every float from 0 to 2^17 is asked, a few minutes a scale.  torch.cos calls a vector library whose last
bit is not always right, so it is run, not modelled; after the rounding to bf16 one value in ten million
differs.  Prints rows `{SCALE, ARGUMENT, COS or SIN, RESULT}` as kernels/rotary.c reads them.
"""
import argparse
import sys

import numpy
import torch

LAST = 0x48000000  # 2^17
CHUNK = 1 << 22


def bf16(values):
    return values.to(torch.bfloat16).view(torch.int16).numpy().view(numpy.uint16)


def find(first, scales):
    """The rows of the floats whose encodings begin at `first`."""
    codes = numpy.arange(first, min(first + CHUNK, LAST + 1), dtype=numpy.uint32)
    x = codes.view(numpy.float32)
    t, wide = torch.from_numpy(x), x.astype(numpy.float64)
    rows = []
    for name, theirs, ours in (("COS", torch.cos(t), numpy.cos(wide)), ("SIN", torch.sin(t), numpy.sin(wide))):
        ours = torch.from_numpy(ours.astype(numpy.float32))
        # where the functions agree in float32, so does all that follows
        differs = (theirs != ours).nonzero().flatten()
        theirs, ours = theirs[differs], ours[differs]
        for scale in scales:
            a, b = bf16(theirs * scale), bf16(ours * scale)
            for i in (a != b).nonzero()[0]:
                rows.append((scale, int(codes[differs[i]]), name, int(a[i])))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("scales", nargs="+", type=float)
    scales = parser.parse_args().scales
    torch.set_num_threads(1)
    rows = []
    for first in range(0, LAST + 1, CHUNK):
        rows += find(first, scales)
        if sys.stderr.isatty():
            print(f"\r{first / LAST:4.0%}", end="", file=sys.stderr)
    for scale, x, name, y in sorted(rows):
        print(f"    {{{numpy.float32(scale)!s}f, 0x{x:08x}, ROTARY_{name}, 0x{y:04x}}},")


if __name__ == "__main__":
    main()
