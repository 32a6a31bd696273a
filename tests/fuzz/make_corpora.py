#!/usr/bin/env python3
"""Writes tests/fuzz/corpus: first inputs of each target, small ones.  What a fuzzer found is added by hand, under a name
that says what it was.

    python tests/fuzz/make_corpora.py [FOLDER OF TINY MODELS]
"""
import gzip
import io
import json
import os
import random
import struct
import sys
import zipfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DICE = random.Random(1)


def put(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def noise(n):
    return bytes(DICE.randrange(256) for _ in range(n))


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def files():
    giant = 2 ** 63 - 1
    return {
        "one": safetensors({"a": ("BF16", [2, 3], noise(12))}), "empty": safetensors({}),
        "metadata": safetensors({"a": ("F32", [1], noise(4)), "b": ("I64", [2], noise(16))}, {"format": "pt"}),
        "no_elements": safetensors({"z": ("BF16", [0, 3], b"")}),
        "odd_types": safetensors({"q": ("F4", [2], noise(1)), "c": ("C64", [1], noise(8)), "d": ("F16", [2, 1, 2], noise(8))}),
        "giant_empty": safetensors({"z": ("BF16", [0, giant, giant], b""), "y": ("BF16", [giant, giant, 0], b"")}),
        "header_of_length_0": bytes(64), "header_too_long": struct.pack("<Q", 2 ** 60) + b"{}",
        "trace": safetensors({"model.embed_tokens": ("BF16", [2, 4], noise(16)), "tokens": ("I64", [3], struct.pack("<3q", 1, 2, 3))},
                             {"numerics": "torch-cpu/avx2", "attention": "sdpa", "prompt_tokens": "[1,2]", "positions": "all"})}


def npy(descr, shape, data, fortran=False, version=1, text=None):
    """As numpy writes it; text: another header."""
    text = text if text is not None else f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    size = 2 if version == 1 else 4
    text = text.encode() + b" " * (-(len(text) + 7 + size) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(size, "little") + text + data


def npz(members, how=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as z:
        for name, data in members.items():
            z.writestr(zipfile.ZipInfo(name), data, how)
    return out.getvalue()


def dumps():
    giant = 2 ** 63 - 1
    arrays = {"f4": npy("<f4", (2, 3), noise(24)), "f2_fortran": npy("<f2", (2, 3), noise(12), True), "i8_swapped": npy(">i8", (2,), noise(16)),
              "v2": npy("|V2", (1, 4), noise(8)), "scalar": npy("<f8", (), noise(8)), "empty": npy("<f4", (0, 5), b""), "bool": npy("|b1", (3,), b"\1\0\1"),
              "version_2": npy("<u2", (4,), noise(8), version=2), "version_3": npy("<f4", (1,), noise(4), version=3), "object": npy("|O", (1,), noise(8)),
              "many_axes": npy("<f4", (1, 1, 1, 1, 2, 1), noise(8)), "giant": npy("<f4", (0, giant, giant), b""), "cut": npy("<f4", (100,), noise(8)),
              "header_ends_in_descr": npy("", (), b"", text="{'shape': (), 'descr': '"), "size_beyond_int": npy("<f4294967300", (1,), noise(4)),
              "complex": npy("<c8", (1,), noise(8)), "tokens": npy("<i4", (3,), struct.pack("<3i", 1, 2, 3))}
    for name, data in arrays.items():
        put("npy", name, data)
    put("npz", "two", npz({"a.npy": arrays["f4"], "tokens.npy": arrays["tokens"]}))
    put("npz", "packed", npz({"a.npy": arrays["f4"], "b/c.npy": arrays["v2"]}, zipfile.ZIP_DEFLATED))
    put("npz", "ours", npz({"__metadata__.json": b'{"numerics":"ideal","left_out":"{}"}', "x.npy": arrays["version_2"]}))
    put("npz", "odd", npz({"o.npy": arrays["object"], "c.npy": arrays["complex"], "folder/": b"", "s.npy": arrays["scalar"]}))
    put("npz", "none", npz({}))
    put("npz", "no_npy", npz({"a.txt": b"text"}))
    put("npz", "torch", npz({"archive/data.pkl": b"\x80\2."}))
    put("npz", "cut", npz({"a.npy": arrays["f4"]})[:-10])


def http():
    head = "POST /v1/tokenize HTTP/1.1\r\nHost: x\r\n"
    for i, rest in enumerate(["\r\n", "Content-Length: 5\r\n\r\n{\"a\":", "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length: -5\r\n\r\n",
                              "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                              "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", " folded\r\n\r\n", "No colon\r\n\r\n", "X: \0\r\n\r\n",
                              "Host: y\r\n\r\n", "Expect: 100-continue\r\nOrigin: http://a.example\r\nContent-Encoding: gzip\r\n\r\n"]):
        put("head", f"fields_{i}", head + rest)
    for i, line in enumerate(["GET /health HTTP/1.1", "GET http://localhost:8642/v1/values?layer=0&glob=* HTTP/1.1", "GET /health%00x HTTP/1.0",
                              "\r\nGET / HTTP/1.1", "GET  / HTTP/1.1", "PRI * HTTP/2.0", "GET /" + "&" * 50 + " HTTP/1.1"]):
        put("head", f"line_{i}", line + "\r\nHost: x\r\n\r\n")
    for i, case in enumerate(["*", "*\0a.b", "layer_?\0layer_1", "[a-c]*\0bx", "*[a-\0x[a-", "[!]a]\0b", "\\*\0*", "*a*b*c*\0xaxbxcx", "a\\\0a"]):
        put("glob", str(i), case)
    body = b'{"text":"Hello"}'
    for i, packed in enumerate([gzip.compress(body, mtime=0), zlib.compress(body), body, body]):
        put("inflate", str(i), bytes([i]) + packed)
    put("inflate", "two_members", b"\0" + gzip.compress(body, mtime=0) * 2)
    put("inflate", "bomb", b"\0" + gzip.compress(bytes(2 << 20), mtime=0))
    put("inflate", "cut", b"\0" + gzip.compress(body, mtime=0)[:-5])
    for i, text in enumerate(["alice 0123456789abcdef\n", "# none\n\n", "a b c\n", "alice short\n", "alice\t0123456789abcdef0123456789abcdef\nbob 0123456789abcdeg"]):
        put("tokens", str(i), text)


def requests():
    asked = [{"prompt": "Hi", "values": ["logits"], "steps": 1},
             {"tokens": [1, 2, 3], "values": ["layer_0.*", "step_*/lm_head"], "positions": "last", "format": "digest", "attention": "eager"},
             {"tokens": [1, 2, 3, 4], "values": ["*"], "positions": [0, 2], "padding": 1, "batch": 4, "chunks": [1, 3], "special": False},
             {"tokens": [1, 2], "values": [], "replace": {"layer_0.attn_output": [[1.5, "NaN"], ["-Infinity", 3]]}},
             {"prompt": "a", "top_k": 5, "positions": "all"}, {"prompt": "a", "max_tokens": 3, "stop_at_eos": True, "stream": True},
             {"text": "Hello"}, {"tokens": [5, 6, 7]}, {"text": "\u0000\u00e9", "special": False}]
    for i, one in enumerate(asked):
        for route in (0, 1, 2, 3, 4, 6):
            if (i + route) % 3 == 0 or i < 2:
                put("request", f"{i}_{route}", bytes([route | (i & 1) << 3]) + json.dumps(one).encode())
    for i, one in enumerate(asked[:3]):
        put("request", f"binary_{i}", b"\5" + safetensors({"layer_0.attn_output": ("BF16", [i + 1, 64], noise(128 * (i + 1)))},
                                                         {"request": json.dumps(one)}))
    put("request", "binary_giant", b"\5" + safetensors({"lm_head": ("BF16", [0, 2 ** 63 - 1, 2 ** 63 - 1], b"")},
                                                       {"request": json.dumps({"tokens": [1], "values": []})}))


def client():
    whole = {"numerics": "n", "attention": "sdpa", "tokens": [1, 2, 3], "aliases": {"logits": ["x"]}, "prompt_tokens": [1, 2],
             "values": {"model.embed_tokens": {"shape": [2, 4], "dtype": "BF16", "sha256": "a" * 64}, "x": {"shape": [3], "dtype": "F32", "sha256": "b" * 64}}}
    other = json.loads(json.dumps(whole))
    other["values"]["x"]["sha256"], other["tokens"] = "c" * 64, [1, 2, 4]
    giant = json.loads(json.dumps(whole))
    giant["values"]["x"]["shape"] = [2 ** 63 - 1, 3]
    for name, one in (("same", whole), ("other", other), ("giant_shape", giant)):
        put("digests", name, json.dumps(whole) + "\0" + json.dumps(one))


def models(tiny):
    for name in ("tiny-qwen2", "tiny-llama3-rope", "tiny-mistral"):
        with open(os.path.join(tiny, name, "config.json"), encoding="utf-8") as f:
            put("config", name, f.read())
        with open(os.path.join(tiny, name, "tokenizer.json"), encoding="utf-8") as f:
            whole = json.load(f)
        kept = dict(sorted(whole["model"]["vocab"].items(), key=lambda x: x[1])[:300])
        pairs = [m if isinstance(m, list) else m.split(" ", 1) for m in whole["model"]["merges"]]
        whole["model"] |= {"vocab": kept, "merges": [m for m in pairs if {m[0], m[1], m[0] + m[1]} <= set(kept)]}
        for i, token in enumerate(whole.get("added_tokens", [])):
            token["id"] = len(kept) + i
        put("tokenizer", name, json.dumps(whole, ensure_ascii=False))
    for text in ("Hello, world", "<|im_start|>user\n<|endoftext|>", "e\u0301\u0327 \u1100\u1161\u11a8", "\U0001f600\U0001f469\u200d\U0001f469", "   \n\n\t ",
                 "a" * 300, "1234567", "'s 'RE don't", "\u2028\u00a0\u3000x"):
        put("encode", f"{len(text)}_{ord(text[0]):x}", text)
    put("encode", "no_utf8", b"ab\xff\xc0\x80")


def main():
    base = os.environ.get("SAMEBIT_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "samebit")
    for name, data in files().items():
        put("safetensors", name, data)
        put("receive", name, b"\x07" + data)
    http()
    requests()
    client()
    models(sys.argv[1] if len(sys.argv) > 1 else os.path.join(base, "tiny"))
    folder = os.path.join(ROOT, "configs", "families")
    for name in sorted(os.listdir(folder))[:4]:
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            put("family", name, f.read())
    dumps()


if __name__ == "__main__":
    main()
