#!/usr/bin/env python3
"""What we read beside what the references read: numpy's .npy, the safetensors package.

    python tests/fuzz/differential.py --build build [--mutations N] [FOLDER OF CORPORA ...]

Every file of the corpora (tests/fuzz/corpus, and what a fuzzer has grown, where its folder is given) and N random changes of each go
to both.  Where both read a file the arrays must be the same: dtype, shape, order and bytes.  Where the reference
reads and we refuse, the reason must be one of KNOWN; what we read and the reference refuses is counted.
Exit status 1 when something differed.
"""
import argparse
import collections
import glob
import io
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy
import safetensors

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# why we refuse what the reference reads: the words of ours, and what stands behind them
KNOWN = {"its header is not one that numpy writes": "more than 8 axes, another order of bytes, or spaces that numpy never writes",
         "no key may come twice": "a key that comes twice", "duplicate": "a key that comes twice",
         "header does not begin with": "space before the header", "header:": "JSON that serde takes and jansson does not, or the reverse"}


try:
    from numpy.lib._format_impl import _read_array_header as read_header  # of every version; the public ones lack the third
except ImportError:
    from numpy.lib.format import _read_array_header as read_header


def numpy_reads(data):
    """{"": [dtype, shape, fortran, bytes]} or None."""
    try:
        f = io.BytesIO(data)
        version = numpy.lib.format.read_magic(f)
        shape, fortran, dtype = read_header(f, version)
        count = 1
        for n in shape:
            count *= n
        if dtype.hasobject or dtype.names or dtype.subdtype or count < 0 or count * dtype.itemsize > len(data) - f.tell():
            return None
        kind = dtype.kind + str(dtype.itemsize)
        begin = f.tell()
        return {"": [(">" if dtype.byteorder == ">" else "") + kind, list(shape), bool(fortran), data[begin:begin + count * dtype.itemsize]]}
    except Exception:  # whatever it says, it does not read it
        return None


def package_reads(data):
    try:
        return {name: [t["dtype"], list(t["shape"]), False, bytes(t["data"])] for name, t in safetensors.deserialize(data)}
    except Exception:
        return None


def ours(text, data):
    found = json.loads(text)
    if "error" in found and isinstance(found["error"], str):
        return None, found["error"]
    return {name: [dtype, shape if isinstance(shape, list) else [int(n) for n in shape.strip("[]").split(",") if n.strip()], fortran,
                   data[begin:begin + size]] for name, (dtype, shape, fortran, begin, size) in found.items()}, ""


def changed(data, dice):
    """One of the changes that a fuzzer makes."""
    data = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 4])):
        at = dice.randrange(len(data) + 1)
        how = dice.randrange(4)
        if how == 0 and at < len(data):
            data[at] = dice.randrange(256)
        elif how == 1 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif how == 2:
            del data[at:at + dice.randrange(1, 9)]
        else:
            data[at:at] = dice.choice([b"0", b"1", b",", b" ", b"(", b"'", b"-1", b"9" * 19, b"[", b"}", b"\0"])
    return bytes(data)


def compare(kind, reference, files, tool):
    counts, bad = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, kind))
        paths = []
        for i, data in enumerate(files):
            paths.append(os.path.join(folder, kind, str(i)))
            with open(paths[-1], "wb") as f:
                f.write(data)
        done = subprocess.run([tool], input="\n".join(paths) + "\n", capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(files), (kind, len(lines), len(files))
    for data, line in zip(files, lines):
        (mine, why), theirs = ours(line, data), reference(data)
        if mine is None and theirs is None:
            counts["refused by both"] += 1
        elif mine is None:
            reason = next((k for k in KNOWN if k in why), None)
            counts["read by the reference alone" if reason else "REFUSED WITHOUT A KNOWN REASON"] += 1
            bad += reason is None
            if reason is None:
                print(kind, "refused:", why, data[:200])
        elif theirs is None:
            counts["read by us alone"] += 1
        elif mine == theirs:
            counts["the same"] += 1
        else:
            counts["DIFFER"] += 1
            bad += 1
            print(kind, "differ:", data[:200], {n: v[:3] for n, v in mine.items()}, {n: v[:3] for n, v in theirs.items()})
    print(f"{kind:<14}{len(files):>8} files: " + "; ".join(f"{n} {what}" for what, n in counts.most_common()), flush=True)
    return bad


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--mutations", type=int, default=200)
    p.add_argument("folders", nargs="*")
    a = p.parse_args()
    tool, bad = os.path.join(ROOT, a.build, "tests", "unit", "tool_read"), 0
    for kind, reference in (("npy", numpy_reads), ("safetensors", package_reads)):
        dice, files = random.Random(1), []
        for folder in [os.path.join(HERE, "corpus"), *a.folders]:
            for path in sorted(glob.glob(os.path.join(folder, kind, "*"))):
                with open(path, "rb") as f:
                    files.append(f.read())
        files += [changed(data, dice) for data in list(files) for _ in range(a.mutations)]
        bad += compare(kind, reference, files, tool)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
