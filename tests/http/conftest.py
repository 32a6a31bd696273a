"""samebitd as a client sees it: started on a free port with a tiny model, spoken to over the socket.

SAMEBITD: the program (build/samebitd).  SAMEBIT_TINY: folder of tiny models, made when it is not there.
SAMEBIT_DEVICE: the device of daemons that a test gives none (the CPU, one thread).  Daemons have the portable
numerics where a test names no other: the machine's own differ from one to the next.
"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy
import pytest
import safetensors

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMEBITD = os.path.join(ROOT, os.environ.get("SAMEBITD") or "build/samebitd")
DEVICE = os.environ.get("SAMEBIT_DEVICE")
TOKENS = [72, 101, 300, 900, 5, 17, 17, 600]
PORTABLE = "torch-cpu/avx512_bf16"  # the same on every machine
JSON, BINARY = "application/json", "application/octet-stream"


class Reply:
    def __init__(self, response):
        self.status, self.headers = response.status, response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """(status, param, message) of an error, which must look as errors do."""
        found = self.json["error"]
        assert self.headers["Content-Type"] == JSON
        assert set(found) == {"message", "param", "code"} and found["code"] == self.status
        assert isinstance(found["message"], str) and found["message"]
        assert found["param"] is None or isinstance(found["param"], str)
        return self.status, found["param"], found["message"]

    @property
    def tensors(self):
        """name -> array; bf16 as its bits (uint16)."""
        types = {"BF16": numpy.uint16, "I64": numpy.int64}
        return {name: numpy.frombuffer(t["data"], types[t["dtype"]]).reshape(t["shape"])
                for name, t in safetensors.deserialize(self.body)}

    @property
    def metadata(self):
        size = int.from_bytes(self.body[:8], "little")
        return json.loads(self.body[8:8 + size])["__metadata__"]


class Daemon:
    """A running samebitd; stop() insists on a clean end."""

    def __init__(self, folder, limits=None, arguments=(), environment=None, numerics=PORTABLE):
        """numerics: where the arguments name none; None leaves them to the machine."""
        self.config = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump({"stop_seconds": 1} | (limits or {}), self.config)
        self.config.flush()
        self.log = tempfile.TemporaryFile()
        named = "--numerics" in arguments or not numerics
        whose = [] if named else ["--numerics", numerics]
        where = [] if "--device" in arguments else ["--device", DEVICE] if DEVICE else ["--threads", "1"]
        self.process = subprocess.Popen(
            [SAMEBITD, "--model", folder, "--config", self.config.name, "--listen", "127.0.0.1:0",
             *where, *whose, "--verbose", *arguments],
            cwd=ROOT, env=os.environ | (environment or {}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)
        self.line = self.process.stdout.readline().decode()
        found = re.fullmatch(r"samebitd: listening on (?:(https?)://(\S+):(\d+)|(unix:\S+)) \(model .*\)\n", self.line)
        if not found:
            self.process.kill()
            raise AssertionError(f"no address in {self.line!r}: {self.said()}")
        self.url = found[4] or f"{found[1]}://{found[2]}:{found[3]}"
        if not found[4]:
            self.host, self.port = found[2].strip("[]"), int(found[3])

    def said(self):
        # by position: the daemon writes at the offset that a seek would move for both
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode(errors="replace")

    def connect(self, timeout=60):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def socket(self, timeout=60, receive_buffer=None):
        s = socket.socket()
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(timeout)
        s.connect((self.host, self.port))
        return s

    def request(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", JSON)
        connection = self.connect()
        try:
            connection.request(method, path, body, headers)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def post(self, path, body, **headers):
        return self.request("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})

    def trace(self, values, accept=JSON, **fields):
        fields.setdefault("tokens", TOKENS)
        reply = self.post("/v1/trace", {"values": values, **fields}, Accept=accept)
        assert reply.status == 200, reply.body
        return reply

    def rss(self):
        """Kilobytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def alive(self):
        return self.process.poll() is None and self.get("/health").status == 200

    def stop(self, number=signal.SIGTERM, within=120):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running {within} s after the signal: {self.said()}") from None
        finally:
            self.process.stdout.close()
            self.config.close()
        said = self.said()
        assert "Sanitizer" not in said and "runtime error" not in said, said
        assert status == 0, (status, said)


PLAIN = ("--isa", "plain")


def long_run(**fields):
    """The body of a trace that gives about 260 MB."""
    body = {"tokens": [i % 1000 for i in range(1000)], "values": ["*"], "steps": 300, "attention": "eager", **fields}
    return json.dumps(body).encode()


def slow_run():
    """The body of a trace whose first byte comes after many seconds (of a daemon that is PLAIN)."""
    return long_run(values=["step_3000/logits"], steps=3000)


def post_bytes(path, body, accept=BINARY, extra=""):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nAccept: {accept}\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


# For tests that count memory: an instrumented build keeps what was freed aside, and every thread a second stack, whose pages
# are touched one after the other over its first thousand requests.  Only memory that is held shall be counted.
HELD = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=16"
                                                             ":detect_stack_use_after_return=0"}
PATIENCE = 120  # seconds, of what must come but may come late on a busy machine


def settle(daemon):
    """Until the daemon has taken what was sent to it before: requests are read in turn, by four threads."""
    for _ in range(8):
        assert daemon.post("/v1/tokenize", {"text": "a"}).status == 200


def wait_for(true, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The folder of tiny models."""
    folder = os.environ.get("SAMEBIT_TINY")
    if folder:
        return folder
    folder = str(tmp_path_factory.mktemp("tiny"))
    subprocess.run([sys.executable, os.path.join(ROOT, "tests/tiny/make_tiny.py"), folder, "tiny-qwen2"],
                   check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def model(models):
    return os.path.join(models, "tiny-qwen2")


@pytest.fixture(scope="session")
def daemon(model):
    d = Daemon(model)
    yield d
    d.stop()


@pytest.fixture(scope="session")
def url(daemon):
    return f"http://{daemon.host}:{daemon.port}"


@pytest.fixture
def start(model):
    """start({limit: ...}, *arguments, environment={}): a daemon of the test's own."""
    running = []

    def starter(limits=None, *arguments, environment=None):
        if DEVICE and {"--isa", "--threads"} & set(arguments):
            pytest.skip(f"skip: of the CPU alone, not of {DEVICE}")
        running.append(Daemon(model, limits, arguments, environment))
        return running[-1]

    yield starter
    for d in running:
        d.stop()
