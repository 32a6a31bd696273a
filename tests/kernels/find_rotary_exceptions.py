"""Finds where torch.cos and torch.sin of a float32, scaled and rounded to bf16 as the rotary embeddings
of transformers scale and round them, are not what the correctly rounded functions give.

    python tests/kernels/find_rotary_exceptions.py > kernels/rotary_exceptions.h

Every float from 0 to 2^17 is asked, in a few minutes.  torch.cos calls a vector library whose last bit is
not always right, so it is run, not modelled; after the rounding to bf16 one value in ten million differs.
"""
import math
import sys

import numpy
import torch

LAST = 0x48000000  # 2^17
CHUNK = 1 << 22
# 1, YaRN's 0.1 ln(factor) + 1, and LongRoPE's sqrt(1 + ln(32) / ln(4096)) of Phi-3 and Phi-4
SCALES = [1.0, *(0.1 * math.log(factor) + 1 for factor in (2, 3, 4, 6, 8, 10, 16, 32, 40, 64)),
          math.sqrt(1 + math.log(32) / math.log(4096))]

HEAD = """/* rotary_exceptions.h - where torch.cos and torch.sin of an f32, multiplied by a scale in f32 and rounded
 * to bf16, are not what the correctly rounded functions give: the argument's encoding, ascending, and
 * the bf16 result, for each scale.
 *
 * Made by tests/kernels/find_rotary_exceptions.py, which runs PyTorch 2.13 on every float in
 * [0, 2^17]; not derived from anything else. */
#ifndef SAMEBIT_ROTARY_EXCEPTIONS_H
#define SAMEBIT_ROTARY_EXCEPTIONS_H

#include <stdint.h>

struct rotary_exception {
    uint32_t x;
    uint16_t y;
};

/* Exceptions of a scale: cos has [cos, sin), sin has [sin, end) of the list. */
struct rotary_scale {
    float scale;
    uint16_t cos, sin, end;
};
"""


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
    torch.set_num_threads(1)
    rows = []
    for first in range(0, LAST + 1, CHUNK):
        rows += find(first, SCALES)
        if sys.stderr.isatty():
            print(f"\r{first / LAST:4.0%}", end="", file=sys.stderr)
    write(rows)


def write(rows):
    """The header of (scale, argument, COS or SIN, result)."""
    print(HEAD)
    print("static const struct rotary_exception rotary_exceptions[] = {")
    starts = []
    ordered = []
    for scale in SCALES:
        for name in ("COS", "SIN"):
            starts.append(len(ordered))
            ordered += sorted((x, y) for s, x, n, y in rows if (s, n) == (scale, name))
    for i in range(0, len(ordered), 4):
        print("    " + " ".join(f"{{0x{x:08x}, 0x{y:04x}}}," for x, y in ordered[i:i + 4]))
    print("};\n\nstatic const struct rotary_scale rotary_scales[] = {")
    starts.append(len(ordered))
    for i, scale in enumerate(SCALES):
        cos, sin, end = starts[2 * i:2 * i + 3]
        print(f"    {{{numpy.float32(scale)!s}f, {cos}, {sin}, {end}}},")
    print("};\n\n#endif")


if __name__ == "__main__":
    main()
