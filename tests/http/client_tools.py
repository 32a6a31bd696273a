"""build/samebit as a terminal sees it: what its tests share: running it, writing files, a stub daemon.

SAMEBIT: the program (build/samebit).
"""
import hashlib
import http.server
import json
import os
import struct
import subprocess
import threading

import numpy

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


def digest_reply(body, values):
    """What samebitd says of a trace with "format": "digest"."""
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
        if handler.path == "/v1/model":
            handler.reply(200, {"config": {}})
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
