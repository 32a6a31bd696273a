#!/usr/bin/env python3
"""Trains the small byte-level BPE of the tiny models: text.txt -> merges.txt.

    python3 tests/tiny/train_bpe.py [--check]

Run once; the result is committed.  Plain BPE: of all adjacent pairs inside words the most frequent
is merged, the first in byte order among equals, until the vocabulary is full.  --check only says
whether merges.txt is what the text gives.
"""
import collections
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MERGES = 765  # 256 bytes + 765 merges + 3 special tokens = 1024 ids


def byte_characters():
    """The 256 printable characters that byte-level BPE writes for bytes, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def train(text, merges):
    written = byte_characters()
    words = collections.Counter(re.findall(r" ?[^\W\d_]+|\d| ?[^\w\s]+|\s+|_", text))
    words = [([written[b] for b in word.encode()], n) for word, n in sorted(words.items())]
    out = []
    while len(out) < merges:
        pairs = collections.Counter()
        for parts, n in words:
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        out.append(best)
        for parts, _ in words:
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == best:
                    parts[at:at + 2] = ["".join(best)]
                at += 1
    return "".join(f"{a} {b}\n" for a, b in out)


def main():
    with open(os.path.join(HERE, "text.txt"), encoding="utf-8") as file:
        merges = train(file.read(), MERGES)
    path = os.path.join(HERE, "merges.txt")
    if sys.argv[1:] == ["--check"]:
        with open(path, encoding="utf-8") as file:
            return 0 if file.read() == merges else "merges.txt is not what text.txt gives"
    with open(path, "w", encoding="utf-8") as file:
        file.write(merges)
    return 0


if __name__ == "__main__":
    sys.exit(main())
