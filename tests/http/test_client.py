"""build/samebit as a terminal sees it: exit status, standard output, standard error and files.

Comparisons of files; commands against a stub daemon that can misbehave; commands against samebitd.
SAMEBIT: the program (build/samebit).
"""
import http.server
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import numpy
import pytest
import safetensors.numpy

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMEBIT = os.path.join(ROOT, os.environ.get("SAMEBIT") or "build/samebit")
SAME, DIFFERENT, TROUBLE = 0, 1, 2
SIZES = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8, "F64": 8, "U8": 1}


def samebit(*arguments, url=None, timeout=60, status=None, **kwargs):
    """Runs it; a death by signal or a sanitizer's report fails whatever is expected."""
    environment = os.environ | {"LC_ALL": "C.UTF-8"} | ({"SAMEBIT_URL": url} if url else {})
    environment.pop("NO_COLOR", None)
    done = subprocess.run([SAMEBIT, *map(str, arguments)], env=environment, timeout=timeout,
                          stdin=kwargs.pop("stdin", subprocess.DEVNULL),
                          stdout=kwargs.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, **kwargs)
    said = done.stderr.decode(errors="replace")
    assert done.returncode in (SAME, DIFFERENT, TROUBLE), (arguments, done.returncode, said)
    assert "Sanitizer" not in said and "runtime error" not in said, said
    if done.returncode == TROUBLE:
        assert said.startswith("samebit: ") and len(said.splitlines()) == 1, said
    if status is not None:
        assert done.returncode == status, (arguments, said, done.stdout)
    done.text, done.said = (done.stdout or b"").decode(errors="replace"), said
    return done


def compare(*arguments, **kwargs):
    """The machine form and the exit status."""
    done = samebit("compare", *arguments, "--json", **kwargs)
    return json.loads(done.text), done.returncode


# ---------------------------------------------------------------------------------------------
# files

def write(path, tensors, metadata=None, edit=None):
    """tensors: name -> (dtype, array of any dtype of that size), laid out in this order."""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, array) in tensors.items():
        raw = numpy.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    if edit:
        header = edit(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    return path


def bf16(*shape, seed=0, scale=1.0):
    values = numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32) * scale
    return (values.view(numpy.uint32) >> 16).astype(numpy.uint16)


def widen(bits):
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


META = {"model": "m", "numerics": "torch-cpu/avx2", "weights": "ab" * 32, "attention": "eager",
        "host": "h", "prompt_tokens": "[5,6,7]", "aliases": "{}"}


def trace_of(layers=3, steps=1):
    out = {}
    for step in range(steps + 1):
        rows = 1 if step else 3
        prefix = f"step_{step}/" if step else ""
        for layer in range(layers):
            for k, name in enumerate(("input_layernorm", "self_attn.weights", "mlp.down_proj")):
                out[f"{prefix}model.layers.{layer}.{name}"] = (
                    "BF16", bf16(rows, 64, seed=step * 1000 + layer * 10 + k))
        out[f"{prefix}lm_head"] = ("BF16", bf16(rows, 500, seed=step * 1000 + 999))
    out["tokens"] = ("I64", numpy.arange(5, 8 + steps, dtype=numpy.int64))
    return out


def test_equal_files(tmp_path):
    a = write(tmp_path / "a.safetensors", trace_of(), META)
    b = write(tmp_path / "b.safetensors", trace_of(), META)
    done = samebit("compare", a, b, status=SAME)
    assert "equal bits: 21 values" in done.text and "0 differing" in done.text
    assert "\x1b" not in done.text and done.said == ""
    report, status = compare(a, b)
    assert status == SAME and report["same"] and report["first_divergence"] is None
    assert [r["verdict"] for r in report["rows"]] == ["equal"] * 21
    assert report["rows"][0]["value"] == "tokens"


def test_differences(tmp_path):
    tensors = trace_of()
    a = write(tmp_path / "a.safetensors", tensors, META)
    name = "model.layers.1.self_attn.weights"
    changed = tensors[name][1].copy()
    changed[1, 9] ^= 1
    changed[2, 3] ^= 2
    other = dict(tensors) | {name: ("BF16", changed)}
    other["lm_head"] = ("BF16", tensors["lm_head"][1] ^ 1)
    b = write(tmp_path / "b.safetensors", other, META | {"numerics": "torch-cpu/avx512_bf16"})
    report, status = compare(a, b)
    x, y = widen(tensors[name][1]).astype(float), widen(changed).astype(float)
    row = next(r for r in report["rows"] if r["value"] == name)
    assert status == DIFFERENT and report["first_divergence"] == name
    assert row["verdict"] == "differs" and row["differing"] == 2 and row["elements"] == 192
    assert row["max_ulp"] == 2 and row["ulp_dtype"] == "BF16"
    assert row["max_abs"] == numpy.abs(x - y).max()
    assert row["mean_abs"] == pytest.approx(numpy.abs(x - y).mean(), rel=1e-12)
    cosine = (x * y).sum() / numpy.sqrt((x * x).sum() * (y * y).sum())
    assert row["cosine"] == pytest.approx(cosine, abs=1e-14)
    assert row["first"] == {"index": [1, 9], "a": x[1, 9], "b": y[1, 9]}
    assert report["values_equal"] == 19 and report["elements_differing"] == 2 + 1500
    text = samebit("compare", a, b, status=DIFFERENT).text
    assert f"first divergence: {name} at [1, 9]" in text
    assert "torch-cpu/avx2" in text and "torch-cpu/avx512_bf16" in text
    assert re.search(rf"{name} +differs +2 of 192 ", text)
    assert "values with equal bits" in text
    every = samebit("compare", a, b, "--all", status=DIFFERENT).text
    assert "values with equal bits" not in every and every.count("equal bits") == 19
    only = samebit("compare", a, b, "--only-different", status=DIFFERENT).text
    assert "equal bits" not in only and only.count("differs") == 2
    limited = samebit("compare", a, b, "--all", "--only-different", "--limit", "1").text
    assert limited.count("differs") == 2  # --all is every row
    assert "1 more" in samebit("compare", a, b, "--only-different", "--limit", "1").text
    samebit("compare", a, b, "--values", "model.layers.0.*,step_1/model.*", status=SAME)
    samebit("compare", a, b, "--values", "*weights", status=DIFFERENT)


@pytest.mark.parametrize("x, y, expected", [
    (0x80000000, 0x00000000, {"differing": 1, "max_abs": 0, "max_ulp": 0}),
    (0x7fc00000, 0x7fc00000, None),
    (0x7fc00000, 0x7fc00001, {"differing": 1, "nan_pairs": 0, "max_ulp": 0, "max_abs": 0}),
    (0x7fc00000, 0x3f800000, {"differing": 1, "nan_pairs": 1, "max_abs": "NaN", "cosine": "NaN"}),
    (0x7f800000, 0x7f7fffff, {"max_ulp": 1, "max_abs": "Infinity"}),
    (0x7f800000, 0xff800000, {"max_abs": "Infinity", "max_ulp": 2 * 0x7f800000}),
    (0x00000001, 0x80000001, {"max_ulp": 2, "max_abs": 2.0 ** -148}),
    (0x3f800000, 0x3f800001, {"max_ulp": 1, "max_abs": 2.0 ** -23}),
])
def test_bits_of_one_element(tmp_path, x, y, expected):
    sides = [write(tmp_path / n, {"v": ("F32", numpy.array([0x3f800000, bits], numpy.uint32))})
             for n, bits in (("a", x), ("b", y))]
    report, status = compare(*sides)
    assert status == (SAME if expected is None else DIFFERENT)
    for key, value in (expected or {"verdict": "equal"}).items():
        assert report["rows"][0][key] == value, key
    assert samebit("compare", *sides).returncode == status


def test_other_dtypes_shapes_and_orders(tmp_path):
    """A dump as the safetensors package writes it: F32, a batch of one, alphabetical."""
    tensors = trace_of(steps=0)
    a = write(tmp_path / "a.safetensors", tensors, META)
    dump = {name: widen(array)[None] for name, (dtype, array) in tensors.items() if dtype == "BF16"}
    safetensors.numpy.save_file(dump, tmp_path / "hf.safetensors")
    report, status = compare("--common", tmp_path / "hf.safetensors", a)
    assert status == SAME
    assert [r["value"] for r in report["rows"]] == list(dump)  # the order of a
    assert report["rows"][0]["a"]["dtype"] == "F32" and report["rows"][0]["b"]["dtype"] == "BF16"
    text = samebit("compare", "--common", tmp_path / "hf.safetensors", a, status=SAME).text
    assert "batch of one" in text and "compared by value" in text
    missing, status = compare(a, tmp_path / "hf.safetensors")
    assert status == DIFFERENT and missing["rows"][0]["verdict"] == "missing_in_b"
    assert missing["first_divergence"] is None
    dump["lm_head"] = dump["lm_head"][:, :2]
    safetensors.numpy.save_file(dump, tmp_path / "short.safetensors")
    report, status = compare("--common", a, tmp_path / "short.safetensors")
    assert status == DIFFERENT and report["first_divergence"] == "lm_head"
    assert report["rows"][-1]["verdict"] == "shape"


def test_what_is_not_computed_with(tmp_path):
    same = numpy.arange(6, dtype=numpy.float64)
    a = write(tmp_path / "a", {"x": ("F64", same), "y": ("U8", same.astype(numpy.uint8)),
                               "e": ("F32", numpy.zeros((0, 3), numpy.float32))})
    b = write(tmp_path / "b", {"x": ("F64", same), "y": ("U8", same.astype(numpy.uint8)),
                               "e": ("F32", numpy.zeros((0, 3), numpy.float32))})
    samebit("compare", a, b, status=SAME)
    c = write(tmp_path / "c", {"x": ("F64", same + 1), "y": ("I64", same.astype(numpy.int64)),
                               "e": ("F32", numpy.zeros((0, 4), numpy.float32))})
    report, status = compare(a, c)
    assert status == DIFFERENT
    assert [r["verdict"] for r in report["rows"]] == ["differs", "dtype", "shape"]
    samebit("compare", a, c, status=DIFFERENT)


def test_tokens_before_floats(tmp_path):
    tensors = trace_of()
    a = write(tmp_path / "a", tensors, META)
    tensors["tokens"] = ("I64", numpy.array([5, 9, 7, 8], numpy.int64))
    tensors["model.layers.0.input_layernorm"] = ("BF16", bf16(3, 64, seed=77))
    b = write(tmp_path / "b", tensors, META)
    report, status = compare(a, b)
    assert status == DIFFERENT and report["first_divergence"] == "tokens"
    text = samebit("compare", a, b).text
    assert "first divergence: tokens at [1]: A 6, B 9" in text and "not the same prompt" in text


def test_aliases(tmp_path):
    a = write(tmp_path / "a", {"model.embed_tokens": ("BF16", bf16(2, 8))},
              META | {"aliases": '{"embedding_output":["model.embed_tokens"]}'})
    b = write(tmp_path / "b", {"embedding_output": ("BF16", bf16(2, 8))})
    samebit("compare", a, b, status=SAME)
    samebit("compare", b, a, status=SAME)


def test_nothing_in_common(tmp_path):
    a = write(tmp_path / "a", {"x": ("BF16", bf16(2))})
    b = write(tmp_path / "b", {"y": ("BF16", bf16(2))})
    assert "in common" in samebit("compare", a, b, status=TROUBLE).said
    assert "--values" in samebit("compare", a, a, "--values", "q*", status=TROUBLE).said


def test_usage():
    assert "compare" in samebit("--help", status=SAME).text
    for command in ("generate", "logits", "values", "trace", "compare", "tokens", "model", "health"):
        assert samebit(command, "--help", status=SAME).text.startswith(f"samebit {command}")
    for wrong in (["frob"], ["compare"], ["compare", "a"], ["compare", "a", "b", "c"],
                  ["compare", "--nonsense", "a", "b"], ["compare", "a", "b", "--limit"],
                  ["compare", "a", "b", "--limit", "-1"], ["compare", "a", "b", "--limit", "1x"],
                  ["compare", "--all=1", "a", "b"], ["trace", "x"], ["trace", "-o", "f"],
                  ["trace", "x", "--tokens", "1", "-o", "f"], ["trace", "--tokens", "1,,2", "-o", "f"],
                  ["trace", "x", "y", "-o", "f"], ["logits", "x", "--full"], ["logits", "x", "-o", "f"],
                  ["trace", "x", "-o", "f", "--replace", "nofile"], ["tokens"],
                  ["trace", "x", "-o", "f", "--replace", "a=/nonexistent"],
                  ["health", "--url", "ftp://x"], ["model", "x"], ["generate", b"\xff".decode("latin1"), "-n"]):
        samebit(*wrong, status=TROUBLE)


def malformed(rng, good):
    """One way of breaking a good file a trace reader must see."""
    size = struct.unpack("<Q", good[:8])[0]
    header, data = json.loads(good[8:8 + size]), good[8 + size:]
    names = [n for n in header if n != "__metadata__"]
    one = header[rng.choice(names)]
    kind = rng.randrange(16)
    if kind == 0:
        return good[:rng.randrange(len(good))]
    if kind == 1:
        return struct.pack("<Q", rng.choice([0, 1, len(good), 2 ** 63, 2 ** 64 - 1, size + 8])) + good[8:]
    if kind == 2:
        at = rng.randrange(8, 8 + size)
        return good[:at] + bytes([rng.choice([0, 0x22, 0x7b, 0xff, 0xc0])]) + good[at + 1:] + b"?"
    if kind == 3:
        one["shape"] = [rng.choice([-1, 2 ** 62, 3.5, "x", None]), 2]
    elif kind == 4:
        one["dtype"] = rng.choice(["BF17", "", 3, None, "bf16", "F" * 40])
    elif kind == 5:
        one["data_offsets"] = rng.choice([[0], [5, 2], [0, 2 ** 63], [-4, 4], "x", [0, 1, 2], [1.5, 3]])
    elif kind == 6:
        one["data_offsets"] = [one["data_offsets"][0] + 2, one["data_offsets"][1] + 2]
    elif kind == 7:
        del one[rng.choice(["dtype", "shape", "data_offsets"])]
    elif kind == 8:
        data += b"\0" * rng.randrange(1, 9)
    elif kind == 9:
        data = data[:-rng.randrange(1, 9)]
    elif kind == 10:
        header["__metadata__"] = rng.choice([[], 3, {"a": 1}, {"a": {"b": "c"}}, "x"])
    elif kind == 11:
        return good[:8] + b"[" + good[9:]
    elif kind == 12:
        first, second = rng.sample(names, 2)
        header[first]["data_offsets"] = header[second]["data_offsets"]
    elif kind == 13:
        name = rng.choice(names)
        text = json.dumps(header)[:-1] + "," + json.dumps(name) + ":" + json.dumps(header[name]) + "}"
        return struct.pack("<Q", len(text)) + text.encode() + data
    elif kind == 14:
        header[rng.choice(names)] = rng.choice([[], None, 3, "x"])
    else:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_malformed_files(tmp_path):
    good = write(tmp_path / "good", trace_of(layers=1), META)
    whole = good.read_bytes()
    bad = tmp_path / "bad.safetensors"
    rng = random.Random(1)
    for i in range(300):
        bad.write_bytes(malformed(rng, whole))
        done = samebit("compare", *((bad, good) if i % 2 else (good, bad)), status=TROUBLE)
        assert "bad.safetensors" in done.said and done.text == "", (i, done.said)
    for wrong in (tmp_path, tmp_path / "none", "/dev/null"):
        assert str(wrong) in samebit("compare", good, wrong, status=TROUBLE).said


def test_odd_metadata(tmp_path):
    """Metadata may say anything; a comparison does not lean on it."""
    for n, aliases in enumerate(("{", "[]", "3", '{"x": 3}', '{"x": ["y", "z"]}', '{"x": ["x"]}', "")):
        for tokens in ("", "[", "1,2", "[1, \"x\"]", "x,y", "[[1]]", "1," * 9):
            a = write(tmp_path / f"a{n}", trace_of(layers=1), META | {"aliases": aliases, "prompt_tokens": tokens})
            samebit("compare", a, a, status=SAME)


def test_full_output(tmp_path):
    a = write(tmp_path / "a", trace_of(), META)
    with open("/dev/full", "wb") as full:
        for extra in ([], ["--json"]):
            assert "standard output" in samebit("compare", a, a, *extra, stdout=full, status=TROUBLE).said


# ---------------------------------------------------------------------------------------------
# a stub daemon

class Stub(http.server.ThreadingHTTPServer):
    """answer(handler, body) writes the whole reply."""
    daemon_threads = True

    def __init__(self, answer):
        self.asked, self.answer = [], answer
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        try:
            self.server.answer(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_POST = do_GET

    def reply(self, status, body, kind="application/json", length=None, encode=True):
        if encode and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not False:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)
        if length:
            self.close_connection = True


def whole_trace(tmp_path):
    return write(tmp_path / "source", trace_of(), META).read_bytes()


def test_trace_to_file(tmp_path):
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        done = samebit("trace", "hi", "--steps", "1", "--values", "logits,layer_0.*", "-v", "a,b",
                       "--positions", "0,5", "-o", out, url=stub.url, status=SAME)
        method, path, headers, asked = stub.asked[0]
        assert (method, path, headers["Accept"]) == ("POST", "/v1/trace", "application/octet-stream")
        assert "Expect" not in headers
        assert json.loads(asked) == {"prompt": "hi", "steps": 1, "positions": [0, 5],
                                     "values": ["logits", "layer_0.*", "a,b"]}
        assert out.read_bytes() == body and "21 values" in done.text
        assert done.said == ""
        assert sorted(os.listdir(tmp_path)) == ["run.safetensors", "source"]
        assert samebit("trace", "hi", "-o", "-", url=stub.url, status=SAME).stdout == body
        assert json.loads(stub.asked[-1][3])["values"] == ["*"]
        samebit("trace", "--tokens", "1,2", "-o", "/dev/null", url=stub.url, status=SAME)
        assert json.loads(stub.asked[-1][3])["tokens"] == [1, 2]
        report = json.loads(samebit("trace", "hi", "-o", out, "--json", url=stub.url, status=SAME).text)
        assert report["bytes"] == len(body) and report["metadata"]["model"] == "m"
        samebit("trace", "-", "-o", out, url=stub.url, status=SAME,
                stdin=open(os.path.join(ROOT, "LICENSE"), "rb"))
        assert "MIT" in json.loads(stub.asked[-1][3])["prompt"]


@pytest.mark.parametrize("length", [None, False, 0])
def test_broken_transfer(tmp_path, length):
    """A reply that ends early, whether or not its length was announced, leaves no file."""
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    out.write_bytes(b"what was there")
    for cut in (0, 5, 8, 100, len(body) // 2, len(body) - 1):
        announced = {None: len(body), False: False, 0: cut}[length]
        with Stub(lambda h, _: h.reply(200, body[:cut], "application/octet-stream", announced)) as stub:
            done = samebit("trace", "hi", "-o", out, url=stub.url, status=TROUBLE)
            assert "broke off" in done.said or "not a safetensors" in done.said, done.said
            assert out.read_bytes() == b"what was there"
            assert sorted(os.listdir(tmp_path)) == ["run.safetensors", "source"]
            samebit("trace", "hi", "-o", "-", url=stub.url, status=TROUBLE)


def test_too_long_or_no_safetensors(tmp_path):
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    for wrong in (body + b"x", b"<html>no</html>" * 9, b"{}", struct.pack("<Q", 2 ** 60) + body[8:],
                  struct.pack("<Q", 4) + b"[1] "):
        with Stub(lambda h, _: h.reply(200, wrong, "application/octet-stream")) as stub:
            samebit("trace", "hi", "-o", out, url=stub.url, status=TROUBLE)
            assert os.listdir(tmp_path) == ["source"]


def test_unwritable_output(tmp_path):
    body = whole_trace(tmp_path)
    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        for path in (tmp_path, "/nonexistent/run.safetensors", "/dev/full", "/proc/run.safetensors"):
            assert str(path) in samebit("trace", "hi", "-o", path, url=stub.url, status=TROUBLE).said
        with open("/dev/full", "wb") as full:
            assert "standard output" in samebit("trace", "hi", "-o", "-", url=stub.url, stdout=full,
                                                status=TROUBLE).said


def test_disk_full(tmp_path):
    """A limit on the size of files stands for a full disk."""
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"

    def limit():
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        samebit("trace", "hi", "-o", out, url=stub.url, status=TROUBLE, preexec_fn=limit)
        assert os.listdir(tmp_path) == ["source"]


def test_interrupted(tmp_path):
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    stop = threading.Event()

    def stall(handler, _):
        handler.reply(200, body[:2000], "application/octet-stream", len(body))
        handler.wfile.flush()
        stop.wait(30)

    for number in (signal.SIGINT, signal.SIGTERM):
        with Stub(stall) as stub:
            process = subprocess.Popen([SAMEBIT, "trace", "hi", "-o", out, "--url", stub.url],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(1000):
                if len(os.listdir(tmp_path)) == 2:
                    break
                time.sleep(0.01)
            process.send_signal(number)
            _, said = process.communicate(timeout=20)
            assert process.returncode == TROUBLE and b"interrupted" in said
            assert os.listdir(tmp_path) == ["source"]
    stop.set()


def test_replace(tmp_path):
    body = whole_trace(tmp_path)
    values = write(tmp_path / "values", {"one": ("BF16", bf16(2, 3)), "two": ("F32", bf16(4).astype(numpy.uint32))})
    single = write(tmp_path / "single:x", {"any": ("BF16", bf16(3, seed=4))})
    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        samebit("trace", "hi", "-o", "-", "--replace", f"layer_0.x={values}:two", "--replace", f"one={values}",
                "--replace", f"step_1/q={single}", url=stub.url, status=SAME)
        _, _, headers, asked = stub.asked[0]
        assert headers["Content-Type"] == "application/octet-stream"
        size = struct.unpack("<Q", asked[:8])[0]
        header = json.loads(asked[8:8 + size])
        assert json.loads(header["__metadata__"]["request"]) == {"prompt": "hi", "values": ["*"]}
        assert header["layer_0.x"]["dtype"] == "F32" and header["one"]["shape"] == [2, 3]
        assert asked[8 + size:] == (bf16(4).astype(numpy.uint32).tobytes() + bf16(2, 3).tobytes()
                                    + bf16(3, seed=4).tobytes())
        for wrong, said in ((f"x={values}", "NAME=FILE:TENSOR"), (f"x={values}:no", "no tensor no"),
                            ("=x", "name=file"), (f"x={tmp_path / 'none'}:y", "none")):
            assert said in samebit("trace", "hi", "-o", "-", "--replace", wrong, url=stub.url,
                                   status=TROUBLE).said


COMMANDS = [["generate", "x"], ["logits", "x"], ["values"], ["trace", "x", "--digest"], ["trace", "x", "-o", "-"],
            ["tokens", "x"], ["tokens", "--decode", "1"], ["model"], ["health"], ["logits", "x", "--full", "-o", "-"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_errors_of_the_daemon(command):
    error = {"error": {"message": "no value called 'x'; near: y", "param": "values[0]", "code": 400}}
    loading = {"error": {"message": "the model is being loaded", "param": None, "code": 503}}
    for status, body, said in (
            (400, error, "no value called 'x'; near: y"), (503, loading, "being loaded"),
            (503, {"status": "loading", "what": "weights", "progress": 0.42}, "loading (weights), 42%"),
            (502, b"<html>Bad Gateway</html>", "502"), (500, b"", "500"), (404, b"\xff\xfe\0", "404"),
            (400, {"error": "flat"}, "400"), (400, [1], "400"), (301, b"", "301"), (204, b"", "")):
        with Stub(lambda h, _: h.reply(status, body, "text/html")) as stub:
            assert said in samebit(*command, url=stub.url, status=TROUBLE).said


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_replies_of_another_kind(command):
    for body in (b"hello", b"", b"[]", b"3", b"null", b"\xff", b'{"values": 3}', b'{"top_k": 3, "text": 4, "tokens": "x"}'):
        with Stub(lambda h, _: h.reply(200, body)) as stub:
            done = samebit(*command, url=stub.url)
            assert done.returncode == TROUBLE or command[0] in ("model", "health", "trace")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_daemon(command):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
        said = samebit(*command, url=url, status=TROUBLE).said
        assert "cannot reach" in said and url in said
        assert url in samebit(*command, "--url", url, url="http://127.0.0.1:1", status=TROUBLE).said


def test_hung_up():
    def hang_up(handler, _):
        handler.close_connection = True

    with Stub(hang_up) as stub:
        for command in COMMANDS:
            assert "broke off" in samebit(*command, url=stub.url, status=TROUBLE).said


def test_generate():
    lines = [{"token": 1, "text": " one"}, {"token": 2, "text": "\u00e9\U0001f600"}, {"token": 3, "text": "\x1b[31m"}]
    end = {"done": True, "text": "", "tokens": [1, 2, 3], "reason": "length"}

    def answer(objects, tail="\n"):
        body = "\n".join(json.dumps(o) for o in objects) + tail
        return lambda h, _: h.reply(200, body.encode(), "application/x-ndjson", False)

    with Stub(answer(lines + [end])) as stub:
        done = samebit("generate", "Hello", "-n", "7", "--no-stop", url=stub.url, status=SAME)
        assert done.text == "Hello one\u00e9\U0001f600\\x1b[31m\n"
        assert json.loads(stub.asked[0][3]) == {"prompt": "Hello", "max_tokens": 7, "stop_at_eos": False,
                                                "stream": True}
        told = samebit("generate", "Hello", "--json", url=stub.url, status=SAME).text.splitlines()
        assert [json.loads(line) for line in told] == lines + [end]
    with Stub(answer(lines + [end], tail="")) as stub:
        samebit("generate", "Hello", url=stub.url, status=SAME)
    for broken in (lines, lines + [{"error": {"message": "too slow", "param": None, "code": 504}}], [[1]], []):
        with Stub(answer(broken)) as stub:
            samebit("generate", "Hello", url=stub.url, status=TROUBLE)


def test_text_comes_at_once():
    """A token is shown when it comes, not when the last one has."""
    go = threading.Event()

    def answer(handler, _):
        handler.reply(200, b'{"token":1,"text":" one"}\n', "application/x-ndjson", False)
        handler.wfile.flush()
        go.wait(20)
        handler.wfile.write(b'{"done":true}\n')

    with Stub(answer) as stub:
        process = subprocess.Popen([SAMEBIT, "generate", "Hello", "--url", stub.url], stdout=subprocess.PIPE)
        assert os.read(process.stdout.fileno(), 5) == b"Hello"
        assert os.read(process.stdout.fileno(), 100) == b" one"
        go.set()
        assert process.wait(20) == SAME
        process.stdout.close()


def test_logits_and_tokens_tables():
    top = {"top_k": [[{"id": 7, "token": " the", "logit": 12.5, "logprob": -0.25},
                      {"id": 1234, "token": "\n", "logit": "NaN", "logprob": "-Infinity"}]], "tokens": [1]}
    with Stub(lambda h, _: h.reply(200, top)) as stub:
        text = samebit("logits", "x", "--top-k", "2", url=stub.url, status=SAME).text.splitlines()
        assert json.loads(stub.asked[0][3]) == {"prompt": "x", "top_k": 2}
        assert text[0].split() == ["id", "token", "logit", "logprob"]
        assert text[1].split() == ["7", "'", "the'", "12.5", "-0.250000"]
        assert text[2].split() == ["1234", "'\\n'", "NaN", "-Infinity"]
        assert len({len(line) for line in text}) == 1  # aligned
        assert json.loads(samebit("logits", "x", "--json", url=stub.url).text) == top
    with Stub(lambda h, _: h.reply(200, {"tokens": [9, 10], "pieces": ["\u4f60", "\x1b[2J"]})) as stub:
        text = samebit("tokens", "x", url=stub.url, status=SAME).text
        assert "\u4f60" in text and "\\x1b[2J" in text and "\x1b" not in text
    with Stub(lambda h, _: h.reply(200, {"text": "a\nb"})) as stub:
        assert samebit("tokens", "--decode", "1,2", url=stub.url, status=SAME).text == "a\nb\n"


# ---------------------------------------------------------------------------------------------
# daemons in comparisons

def digest_reply(body, values):
    """What samebitd says of a trace with "format": "digest"."""
    import hashlib
    size = struct.unpack("<Q", body[:8])[0]
    header = json.loads(body[8:8 + size])
    meta = header.pop("__metadata__")
    tokens = header.pop("tokens")
    begin, end = tokens["data_offsets"]
    data = body[8 + size:]
    return meta | {"prompt_tokens": json.loads(meta["prompt_tokens"]), "aliases": {},
                   "tokens": numpy.frombuffer(data[begin:end], numpy.int64).tolist(),
                   "values": {n: {"dtype": e["dtype"], "shape": e["shape"], "sha256": hashlib.sha256(
                       data[e["data_offsets"][0]:e["data_offsets"][1]]).hexdigest()}
                       for n, e in header.items() if values == ["*"] or n in values}}


def stub_of(tmp_path, name, tensors, meta=META):
    """A daemon that serves one trace."""
    def answer(handler, asked):
        if handler.path.startswith("/v1/values"):
            handler.reply(200, {"values": [{"name": n, "aliases": []} for n in tensors
                                           if n != "tokens" and not n.startswith("step_")]})
            return
        request = json.loads(asked)
        body = write(tmp_path / name, tensors, meta).read_bytes()
        if request.get("format") == "digest":
            handler.reply(200, digest_reply(body, request["values"]))
            return
        kept = {n: t for n, t in tensors.items() if n in request["values"] or n == "tokens"
                or n.split("/")[-1] in request["values"]}
        handler.reply(200, write(tmp_path / name, kept, meta).read_bytes(), "application/octet-stream")
    return Stub(answer)


def test_two_daemons(tmp_path):
    tensors = trace_of()
    other = dict(tensors)
    other["model.layers.1.mlp.down_proj"] = ("BF16", bf16(3, 64, seed=5))
    other["step_1/lm_head"] = ("BF16", bf16(1, 500, seed=5))
    with stub_of(tmp_path, "a", tensors) as a, stub_of(tmp_path, "b", other) as b:
        report, status = compare(a.url, b.url, "--prompt", "hi", "--steps", "1")
        assert status == DIFFERENT and report["first_divergence"] == "model.layers.1.mlp.down_proj"
        assert [r["verdict"] for r in report["rows"]].count("differs") == 2
        for stub in (a, b):  # digests of everything, then the numbers of what differs
            assert [json.loads(r[3]).get("format") for r in stub.asked] == ["digest", None]
            assert json.loads(stub.asked[1][3])["values"] == ["model.layers.1.mlp.down_proj", "step_1/lm_head"]
        row = next(r for r in report["rows"] if r["value"] == "step_1/lm_head")
        assert row["differing"] == int((other["step_1/lm_head"][1] != tensors["step_1/lm_head"][1]).sum())
        report, status = compare(a.url, a.url, "--prompt", "hi")
        assert status == SAME and len(report["rows"]) == 21
        assert "prompt" in samebit("compare", a.url, b.url, status=TROUBLE).said


def test_two_daemons_with_other_ids(tmp_path):
    tensors = trace_of()
    other = dict(tensors) | {"tokens": ("I64", numpy.array([5, 60, 7, 8], numpy.int64)),
                             "lm_head": ("BF16", bf16(3, 500, seed=5))}
    with stub_of(tmp_path, "a", tensors) as a, stub_of(tmp_path, "b", other) as b:
        report, status = compare(a.url, b.url, "--prompt", "hi")
        assert status == DIFFERENT and report["first_divergence"] == "tokens"
        assert len(b.asked) == 1  # no float was worth its transfer


def test_file_and_daemon(tmp_path):
    tensors = trace_of()
    path = write(tmp_path / "file", dict(tensors) | {"unknown": ("BF16", bf16(3))}, META)
    served = dict(tensors)
    with stub_of(tmp_path, "a", served) as stub:
        report, status = compare(path, stub.url)
        assert status == DIFFERENT and [r["verdict"] for r in report["rows"]].count("missing_in_b") == 1
        asked = json.loads(stub.asked[-1][3])
        assert asked["tokens"] == [5, 6, 7] and asked["steps"] == 1
        assert "unknown" not in asked["values"] and "tokens" not in asked["values"]
        assert not any(v.startswith("step_") for v in asked["values"])
        assert asked["attention"] == "eager" and stub.asked[0][1] == "/v1/values?attention=eager"
        samebit("compare", "--common", stub.url, path, status=SAME)
        served["lm_head"] = ("BF16", bf16(3, 500, seed=5))
        report, status = compare(stub.url, path)
        assert status == DIFFERENT and report["first_divergence"] == "lm_head"
        no_ids = write(tmp_path / "none", {"lm_head": tensors["lm_head"]})
        assert "--tokens" in samebit("compare", no_ids, stub.url, status=TROUBLE).said
        samebit("compare", "--common", no_ids, stub.url, "--tokens", "5,6,7", status=DIFFERENT)
        nothing = write(tmp_path / "nothing", {"zzz": tensors["lm_head"]}, META)
        assert "none of its names" in samebit("compare", nothing, stub.url, status=TROUBLE).said


def test_a_file_says_how_it_was_asked(tmp_path):
    """Its attention, positions, padding and chunks are asked of the daemon, unless others are given."""
    tensors = {f"chunk_{i}/{name}": ("BF16", bf16(1, 8, seed=i)) for i in (1, 2)
               for name in ("lm_head", "model.norm")}
    tensors |= {"tokens": ("I64", numpy.array([5, 6, 7], numpy.int64)), "step_1/lm_head": ("BF16", bf16(1, 8, seed=9))}
    del tensors["chunk_1/model.norm"]
    said = META | {"attention": "sdpa", "positions": "last", "padding": "1", "chunks": "[2, 1]"}
    path = write(tmp_path / "file", tensors, said)
    listed = write(tmp_path / "listed", {"lm_head": ("BF16", bf16(2, 8))}, META | {"positions": "[0, 2]"})
    with stub_of(tmp_path, "a", {"lm_head": 0, "model.norm": 0} | tensors) as stub:
        def asked(*arguments):
            samebit("compare", *arguments, timeout=20)
            queries = [r[1] for r in stub.asked if r[0] == "GET"]
            return queries[-1], json.loads([r[3] for r in stub.asked if r[0] == "POST"][-1])

        stub.answer = lambda h, body, whole=stub.answer: whole(h, body) if h.command == "GET" else h.reply(
            500, {"error": {"message": "m"}})
        query, body = asked(path, stub.url)
        assert query == "/v1/values?attention=sdpa"
        assert sorted(body.pop("values")) == ["chunk_2/model.norm", "lm_head"]
        assert body == {"tokens": [5, 6, 7], "steps": 1, "attention": "sdpa", "positions": "last", "padding": 1,
                        "chunks": [2, 1]}
        query, body = asked(stub.url, path, "--attention", "eager")
        assert query == "/v1/values?attention=eager" and body["attention"] == "eager" and body["chunks"] == [2, 1]
        query, body = asked(path, stub.url, "--tokens", "1,2", "--chunks", "1,1", "--padding", "1")
        assert set(body) == {"tokens", "steps", "attention", "padding", "chunks", "values"}
        assert body["tokens"] == [1, 2] and body["chunks"] == [1, 1] and body["attention"] == "sdpa"
        assert asked(listed, stub.url)[1]["positions"] == [0, 2]
    for option in (["--attention", "sdpa"], ["--chunks", "1,2"], ["--padding", "1"]):
        assert "for daemons" in samebit("compare", path, listed, *option, status=TROUBLE).said
    for option in (["--chunks", "1,2"], ["--padding", "1"]):
        assert "--prompt" in samebit("compare", path, "http://127.0.0.1:9", *option, status=TROUBLE).said


def test_two_daemons_of_other_attention(tmp_path):
    tensors = trace_of()
    other = dict(tensors) | {"lm_head": ("BF16", bf16(3, 500, seed=5))}
    with stub_of(tmp_path, "a", tensors) as a, stub_of(tmp_path, "b", other, META | {"attention": "sdpa"}) as b:
        text = samebit("compare", a.url, b.url, "--prompt", "hi", status=DIFFERENT).text
        assert re.search(r"^  attention +A eager\n +B sdpa$", text, re.M), text
        assert "attention" not in json.loads(a.asked[0][3])
        samebit("compare", a.url, b.url, "--prompt", "hi", "--attention", "eager", status=DIFFERENT)
        assert json.loads(a.asked[-1][3])["attention"] == json.loads(b.asked[-1][3])["attention"] == "eager"


@pytest.mark.parametrize("command", [["generate", "x"], ["logits", "x"], ["trace", "x", "--digest"]])
def test_attention_is_asked_for(command):
    with Stub(lambda h, _: h.reply(500, {"error": {"message": "m"}})) as stub:
        samebit(*command, "--attention", "eager", url=stub.url, status=TROUBLE)
        samebit(*command, url=stub.url, status=TROUBLE)
        first, second = (json.loads(r[3]) for r in stub.asked)
        assert first["attention"] == "eager" and "attention" not in second
        if command[0] != "generate":
            samebit(*command, "--padding", "2", "--chunks", "3,4", url=stub.url, status=TROUBLE)
            third = json.loads(stub.asked[-1][3])
            assert third["padding"] == 2 and third["chunks"] == [3, 4]
            assert "--chunks" in samebit(*command, "--chunks", "3,x", url=stub.url, status=TROUBLE).said


def test_daemon_breaks_off_in_a_comparison(tmp_path):
    path = write(tmp_path / "file", trace_of(), META)
    body = path.read_bytes()

    def answer(handler, asked):
        if handler.path.startswith("/v1/values"):
            handler.reply(200, {"values": [{"name": "lm_head", "aliases": []}]})
        else:
            handler.reply(200, body[:3000], "application/octet-stream", len(body))

    with Stub(answer) as stub:
        assert "broke off" in samebit("compare", path, stub.url, status=TROUBLE).said


# ---------------------------------------------------------------------------------------------
# a terminal

def on_terminal(*arguments, columns=120, **environment):
    import fcntl
    import pty
    import termios
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen([SAMEBIT, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave,
                               env=os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | environment)
    os.close(slave)
    out = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(master)
    process.wait(20)
    return out.decode().replace("\r\n", "\n")


def test_terminal(tmp_path):
    tensors = trace_of()
    a = write(tmp_path / "a", tensors, META)
    b = write(tmp_path / "b", dict(tensors) | {"lm_head": ("BF16", bf16(3, 500, seed=5))}, META)
    coloured = on_terminal("compare", a, b)
    assert "\x1b[1;31mdiffers\x1b[0m" in coloured
    plain = on_terminal("compare", a, b, NO_COLOR="1")
    assert "\x1b" not in plain
    assert "\x1b" not in on_terminal("compare", a, b, TERM="dumb")
    for columns in (80, 100, 140, 200):
        text = on_terminal("compare", a, b, "--all", columns=columns, NO_COLOR="1")
        table = [line for line in text.splitlines() if "equal bits" in line or "differs" in line]
        assert all(len(line) <= columns for line in table), columns
        assert ("too narrow" in text) == (columns < 140), columns
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_progress_on_a_terminal_only(tmp_path):
    body = whole_trace(tmp_path)

    def slowly(handler, _):
        handler.reply(200, body[:2000], "application/octet-stream", len(body))
        for at in range(2000, len(body), 1500):
            time.sleep(0.15)
            handler.wfile.write(body[at:at + 1500])

    with Stub(slowly) as stub:
        text = on_terminal("trace", "x", "-o", tmp_path / "out", "--url", stub.url)
        assert re.search(r"\[#+\.+\] +\d+%", text) and "model.layers" in text
        assert "21 values" in text
        assert samebit("trace", "x", "-o", tmp_path / "out", url=stub.url, status=SAME).said == ""


# ---------------------------------------------------------------------------------------------
# samebitd itself

def test_against_samebitd(tmp_path, daemon):
    url = f"http://{daemon.host}:{daemon.port}"
    path = tmp_path / "run.safetensors"
    assert "ok" in samebit("health", url=url, status=SAME).text
    assert "numerics" in samebit("model", url=url, status=SAME).text
    assert "model.layers.0" in samebit("values", "--layer", "0", url=url, status=SAME).text
    assert samebit("values", "no*such", url=url, status=TROUBLE).said
    assert samebit("generate", "Hello", "-n", "3", url=url, status=SAME).text.startswith("Hello")
    assert len(samebit("logits", "Hello", url=url, status=SAME).text.splitlines()) == 6
    ids = json.loads(samebit("tokens", "Hello world", "--json", url=url, status=SAME).text)["tokens"]
    assert samebit("tokens", "-d", ",".join(map(str, ids)), url=url, status=SAME).text == "Hello world\n"
    samebit("trace", "Hello world", "--steps", "2", "-o", path, url=url, status=SAME)
    found = json.loads(samebit("compare", path, url, "--json", status=SAME).text)
    assert found["elements_differing"] == 0 and found["values"] > 50
    samebit("compare", url, url, "--prompt", "Hello world", "--steps", "2", status=SAME)
    digests = samebit("trace", "Hello world", "--digest", "-v", "logits", url=url, status=SAME).text
    assert re.search(r"lm_head +\[\d+, \d+\] +BF16 +[0-9a-f]{64}", digests)
    samebit("logits", "Hello", "--full", "-o", tmp_path / "logits", url=url, status=SAME)
    assert "model.norm" in samebit("trace", "x", "-v", "model.norn", "-o", path, url=url, status=TROUBLE).said


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("extra", [[], ["--positions", "last"], ["--positions", "0,2"], ["--padding", "1"],
                                   ["--chunks", "3,1"], ["--chunks", "2,2", "--padding", "1", "--positions", "last"]])
def test_a_file_is_compared_under_its_own_attention(tmp_path, daemon, start, attention, extra):
    path = tmp_path / "run"
    other = start({}, "--attention", "eager")
    said = samebit("trace", "--tokens", "5,6,7,8", "--steps", "1", "--attention", attention, *extra, "-o", path,
                   url=f"http://{daemon.host}:{daemon.port}", status=SAME).text
    assert said.strip().endswith(f", torch-cpu/avx512_bf16, {attention}")
    for d in (daemon, other):
        report, status = compare(path, f"http://{d.host}:{d.port}")
        assert status == SAME and report["elements_differing"] == 0 and len(report["rows"]) > 50, extra


def test_two_attentions_in_samebitd(tmp_path, daemon, start):
    other = start({}, "--attention", "eager")
    urls = [f"http://{d.host}:{d.port}" for d in (daemon, other)]
    ids = ",".join(str(i) for i in range(100))
    text = samebit("compare", *urls, "--tokens", ids, status=DIFFERENT).text
    assert re.search(r"^  attention +A sdpa\n +B eager$", text, re.M), text
    assert "first divergence: model.layers.0.self_attn.context" in text
    for attention in ("eager", "sdpa"):
        samebit("compare", *urls, "--tokens", ids, "--attention", attention, status=SAME)
    assert "eager" in samebit("trace", "x", "--digest", "-v", "attn_weights", url=urls[0], status=TROUBLE).said
    samebit("trace", "x", "--digest", "-v", "attn_weights", "--attention", "eager", url=urls[0], status=SAME)
    assert "scores" in samebit("values", "*scores", "--attention", "eager", url=urls[0], status=SAME).text
    assert "--attention" in samebit("values", "*scores", url=urls[0], status=TROUBLE).said
    text = samebit("model", url=urls[0], status=SAME).text
    assert re.search(r"^attention +sdpa$", text, re.M) and re.search(r"^attentions +eager, sdpa$", text, re.M)
    two = [samebit("logits", "The", "--attention", a, url=url, status=SAME).text
           for a, url in (("eager", urls[0]), ("eager", urls[1]))]
    assert two[0] == two[1]
    assert samebit("generate", "Hi", "-n", "2", "--attention", "flash", url=urls[0], status=TROUBLE).said


def test_replacing_in_samebitd(tmp_path, daemon):
    url = f"http://{daemon.host}:{daemon.port}"
    before, after = tmp_path / "before", tmp_path / "after"
    samebit("trace", "Hello world", "-o", before, url=url, status=SAME)
    raw = before.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    entry = json.loads(raw[8:8 + size])["model.layers.0.mlp.down_proj"]
    put = write(tmp_path / "put", {"x": ("BF16", bf16(*entry["shape"], seed=3))})
    samebit("trace", "Hello world", "-o", after, "--replace", f"model.layers.0.mlp.down_proj={put}", url=url,
            status=SAME)
    report, status = compare(before, after)
    assert status == DIFFERENT and report["first_divergence"] == "model.layers.0.mlp.down_proj"
    verdicts = [r["verdict"] for r in report["rows"]]
    assert set(verdicts[:verdicts.index("differs")]) == {"equal"}
    # A daemon is asked for what a file holds: the file of a replaced run differs from there on.
    assert compare(after, url)[0]["first_divergence"] == "model.layers.0.mlp.down_proj"
