"""samebitd as a test sees it: started on a free port, spoken to over HTTP.  Standard library only."""
import http.client
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time

import hosts

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("SAMEBITD") or os.path.join(ROOT, "build", "samebitd")
READY_SECONDS = 600
REPLY_SECONDS = 1800


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("SAMEBIT_CACHE") or os.path.join(base, "samebit")


class Trouble(Exception):
    """The daemon did not do what it was asked to."""


class Daemon:
    """A running samebitd; a context manager that stops it."""

    def __init__(self, folder, numerics, threads, isa=None, device=None, environment=None, arguments=()):
        """isa: by which instructions; None lets it choose.  device: "cuda:0"; None is the CPU, which
        alone has isa and threads.  environment: more variables; arguments: more options.  PyTorch's threads, where bits depend on
        them, are `threads` too."""
        if numerics in hosts.OF_THREADS and "--torch-threads" not in arguments:
            arguments = ("--torch-threads", str(threads), *arguments)
        how = ["--device", device] if device else ["--threads", str(threads), *(["--isa", isa] if isa else [])]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [BINARY, "--model", folder, "--listen", "127.0.0.1:0", "--numerics", numerics,
             *how, *arguments],
            cwd=ROOT, env=os.environ | (environment or {}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)
        try:
            self.address = self._address()
            self._await_health()
        except BaseException:
            self.close()
            raise

    def _address(self):
        """The address of the line that says that it is ready."""
        for line in self.process.stdout:
            found = re.search(rb"(\d+\.\d+\.\d+\.\d+):(\d+)", line)
            if found:
                return found[1].decode(), int(found[2])
        raise Trouble(f"{BINARY} did not start: {self.said()}")

    def _await_health(self):
        until = time.monotonic() + READY_SECONDS
        while self.request("GET", "/health")[0] != 200:
            if time.monotonic() > until:
                raise Trouble(f"not ready after {READY_SECONDS} s: {self.said()}")
            time.sleep(0.05)

    def said(self):
        # by position: the daemon writes at the offset that a seek would move for both
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0)[-2000:].decode(errors="replace").strip()

    def close(self):
        """Stops it as an operator would; a daemon that does not end well is trouble."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process.stdout.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        status = self.close()
        if kind is None and status:
            raise Trouble(f"samebitd ended with status {status}: {self.said()}")
        if kind is not None:  # what it said may tell why
            print(f"samebitd ended with status {status}: {self.said()}", file=sys.stderr)

    # ---- requests ----

    def _send(self, method, path, body, headers):
        c = http.client.HTTPConnection(*self.address, timeout=REPLY_SECONDS)
        c.request(method, path, body, headers)
        return c, c.getresponse()

    def request(self, method, path, body=None, headers=None):
        """Status and body."""
        c, reply = self._send(method, path, body, headers or {})
        try:
            return reply.status, reply.read()
        finally:
            c.close()

    def json(self, path, body=None):
        """The parsed reply; body: what to post, None to get."""
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        status, text = self.request(method, path, data, headers)
        if status != 200:
            raise Trouble(f"{method} {path}: {status} {text[:500].decode(errors='replace')}")
        return json.loads(text)

    def trace(self, body, file, content_type="application/json"):
        """Posts body (bytes, or what JSON holds) and writes the safetensors reply to file."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Accept": "application/octet-stream", "Content-Type": content_type}
        c, reply = self._send("POST", "/v1/trace", data, headers)
        try:
            if reply.status != 200:
                raise Trouble(f"POST /v1/trace: {reply.status} {reply.read()[:500].decode(errors='replace')}")
            while piece := reply.read(1 << 20):
                file.write(piece)
        except http.client.IncompleteRead as e:
            raise Trouble(f"POST /v1/trace: the reply broke off after {len(e.partial)} bytes of its last piece")
        finally:
            c.close()
        file.flush()


# ---- safetensors ----

class Tensors:
    """The header of a safetensors file: `entries` are (name, dtype, shape, first byte, end), in
    the order of the data."""

    def __init__(self, path):
        with open(path, "rb") as file:
            size, = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
            self.start, all_bytes = 8 + size, file.seek(0, os.SEEK_END)
        self.path, self.metadata = path, header.pop("__metadata__", {})
        self.entries = sorted(
            ((name, t["dtype"], tuple(t["shape"]), *(self.start + o for o in t["data_offsets"]))
             for name, t in header.items()), key=lambda e: e[3:])
        end = self.start
        for name, _, _, first, last in self.entries:
            if first != end:
                raise Trouble(f"{path}: {name} begins at byte {first}, not {end}")
            end = last
        if end != all_bytes:
            raise Trouble(f"{path}: {all_bytes} bytes, {end} by its header")

    def bytes(self, entry):
        with open(self.path, "rb") as file:
            file.seek(entry[3])
            return file.read(entry[4] - entry[3])


def write_tensors(tensors, metadata):
    """A safetensors file as bytes.  tensors: {name: (dtype, shape, bytes)}."""
    header, at = {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values())


def checkpoint_files(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return [os.path.join(folder, "model.safetensors")]
    with open(index, encoding="utf-8") as file:
        return [os.path.join(folder, f) for f in sorted(set(json.load(file)["weight_map"].values()))]


def weights_digest(folder):
    """server/model/weights.h's digest, from the files alone."""
    import hashlib

    all_entries = [(e[0].encode(), t, e) for t in map(Tensors, checkpoint_files(folder)) for e in t.entries]
    h = hashlib.sha256()
    for name, file, entry in sorted(all_entries, key=lambda x: x[0]):
        h.update(name + b"\0" + entry[1].encode() + b"\0" + ",".join(map(str, entry[2])).encode() + b"\0")
        h.update(file.bytes(entry))
    return h.hexdigest()

