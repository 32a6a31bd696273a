#!/usr/bin/env python3
"""Refuses every allocation, mapping and thread of samebitd and samebit in turn, and says what came of it.

    python tests/chaos/chaos.py --build build --model FOLDER [--device cpu|cuda:0] [--only TEXT] [--seconds N] [--json FILE]

The programs run with failing.so (failing.c) before the allocator.  A site is a stack; each that is met while
the daemon starts, while it answers one of the requests below, or while the tool runs, is refused once, the first time that it
is met.  Good outcomes: what was asked for, with the bytes that it has without a refusal; an error that
says so; for a reply, none, or one that breaks off.  Bad ones, which make the exit status 1: a program that dies or hangs,
other bytes, a 4xx (nothing is wrong with the request), an end without a word, memory that each refusal
keeps more of, and a daemon that does not serve the same request well right afterwards (it has one place of each kind,
so one that is lost shows).  --seconds N tries an even sample of the sites for about so long.
"""
import argparse
import collections
import ctypes
import gzip
import http.client
import json
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CALLS = ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "mmap", "pthread_create"]
SITES, FRAMES, MODULES = 16384, 14, 48
HUNG = 60  # seconds
GOOD = ("same bytes", "an error, said", "no reply", "broke off", "not met again")
EXPLAINED = "dies in OpenSSL"  # which does not bear a refusal while it sets itself up; nobody is served yet
TOKENS = [72, 101, 300, 900, 5, 17]


class Frame(ctypes.Structure):
    _fields_ = [("module", ctypes.c_uint32), ("offset", ctypes.c_uint32)]


class Site(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint64), ("times", ctypes.c_uint64), ("call", ctypes.c_uint64), ("frames", Frame * FRAMES)]


class Layout(ctypes.Structure):
    """struct control of failing.c."""
    _fields_ = [("refuse", ctypes.c_uint64), ("left", ctypes.c_int64), ("refused", ctypes.c_uint64), ("live", ctypes.c_int64),
                ("record", ctypes.c_uint64), ("count", ctypes.c_uint64), ("modules", (ctypes.c_char * 128) * MODULES),
                ("sites", Site * SITES)]


class Control:
    """The file through which a program is told what to refuse."""

    def __init__(self, library):
        self.file = tempfile.NamedTemporaryFile(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.file.truncate(ctypes.sizeof(Layout))
        self.map = mmap.mmap(self.file.fileno(), ctypes.sizeof(Layout))
        self.at = Layout.from_buffer(self.map)
        self.environment = os.environ | {"LD_PRELOAD": library, "CHAOS_CONTROL": self.file.name,
                                         # what was given back holds nonsense, so using it shows
                                         "GLIBC_TUNABLES": "glibc.malloc.perturb=85"}

    def record(self, on):
        self.at.record = on

    def refuse(self, site):
        self.at.left, self.at.refused, self.at.refuse = 1, 0, site

    def sites(self):
        """id -> (call, frames as "module+offset"), in no order, of what was recorded."""
        names = [bytes(m).split(b"\0")[0].decode() for m in self.at.modules]
        return {s.id: (CALLS[s.call], [f"{names[f.module - 1]}+{f.offset:#x}" for f in s.frames if f.module])
                for s in self.at.sites if s.id}

    def forget(self):
        ctypes.memset(ctypes.byref(self.at, Layout.sites.offset), 0, ctypes.sizeof(Site) * SITES)
        self.at.count = 0


def safetensors(tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def requests(hidden):
    """name -> (method, path, body, headers): every route, every form of reply."""
    ask = {"Content-Type": "application/json"}
    binary, gives = {"Accept": "application/octet-stream"}, {"Content-Type": "application/octet-stream"}
    one = {"layer_0.attn_output": ("BF16", [1, hidden], bytes(2 * hidden))}

    def post(path, body, more=None):
        return "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), ask | (more or {})

    return {
        "trace digest": post("/v1/trace", {"tokens": TOKENS, "values": ["*"], "steps": 2, "format": "digest"}),
        "trace json": post("/v1/trace", {"prompt": "Hello", "values": ["layer_0.*", "logits"], "positions": "last", "attention": "eager"}),
        "trace binary": post("/v1/trace", {"tokens": TOKENS, "values": ["step_*/logits"], "steps": 3}, binary),
        "trace replace": post("/v1/trace", {"tokens": [1], "values": ["logits"], "replace": {"layer_0.attn_output": [[0.5] * hidden]}}),
        "trace given": post("/v1/trace", safetensors(one, {"request": json.dumps({"tokens": [1], "values": ["logits"]})}), gives),
        "trace chunks": post("/v1/trace", {"tokens": TOKENS, "chunks": [1, 5], "padding": 1, "batch": 2, "values": ["logits"], "format": "digest"}),
        "trace ideal": post("/v1/trace", {"tokens": [1, 2], "values": ["logits"], "numerics": "ideal", "attention": "eager"}),
        "trace packed": post("/v1/trace", gzip.compress(b'{"tokens":[1,2],"values":["logits"]}', mtime=0), {"Content-Encoding": "gzip"}),
        "isolate": post("/v1/isolate", safetensors(one, {"request": json.dumps({"tokens": [1], "values": ["*"], "attention": "eager"})}), gives | binary),
        "logits": post("/v1/logits", {"prompt": "Hi there", "top_k": 5, "positions": "all"}),
        "generate": post("/v1/generate", {"prompt": "Once", "max_tokens": 6, "temperature": 0.7, "top_p": 0.9, "seed": 3}),
        "generate stream": post("/v1/generate", {"prompt": "Once", "max_tokens": 6, "stream": True}),
        "tokenize": post("/v1/tokenize", {"text": "Hello, world"}),
        "detokenize": post("/v1/detokenize", {"tokens": [5, 6, 7]}),
        "values": ("GET", "/v1/values?layer=0&attention=eager", None, {}),
        "hypotheses": ("GET", "/v1/hypotheses", None, {}),
        "model": ("GET", "/v1/model", None, {}),
        "health": ("GET", "/health", None, {}),
        "a wrong path": ("GET", "/v1/nothing", None, {}),
        "a wrong value": post("/v1/trace", {"tokens": [1], "values": ["nothing"]}),
    }


class Daemon:
    """samebitd under control; .line is what it said when it was ready, or "" where it ended before."""
    SETTINGS = {"reuse_bytes": 0, "running": 1, "together": 1, "waiting": 0, "connections": 4, "stop_seconds": 1}

    def __init__(self, build, control, model, device):
        self.said = tempfile.TemporaryFile()
        config = os.path.join(tempfile.gettempdir(), f"samebit-chaos-{os.getpid()}.json")
        with open(config, "w", encoding="utf-8") as f:
            json.dump(self.SETTINGS, f)
        self.process = subprocess.Popen(
            [os.path.join(build, "samebitd"), "--model", model, "--listen", "127.0.0.1:0", "--config", config,
             *(["--device", device] if device != "cpu" else ["--threads", "2"])],
            cwd=ROOT, env=control.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.said)
        watch = subprocess.Popen(["sleep", str(HUNG)])
        line = b""
        os.set_blocking(self.process.stdout.fileno(), False)
        while watch.poll() is None and self.process.poll() is None and not line.endswith(b"\n"):
            line += self.process.stdout.read() or b""
            time.sleep(0.005)
        self.hung = watch.poll() is not None and self.process.poll() is None and not line
        watch.kill()
        watch.wait()
        os.unlink(config)
        self.line = line.decode()
        found = re.search(r"127\.0\.0\.1:(\d+)", self.line)
        self.port = int(found[1]) if found else None

    def words(self):
        self.said.seek(0)
        return self.said.read().decode(errors="replace")

    def ask(self, method, path, body, headers):
        """(status, bytes), the status being a text where there was no whole reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except TimeoutError:
            return "hangs", b""
        except (http.client.IncompleteRead, ValueError):
            return "broke off", b""
        except (OSError, http.client.HTTPException):
            return "no reply", b""
        finally:
            connection.close()

    def stop(self):
        """How it ended: 0, or a text."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(HUNG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "hangs"
        finally:
            self.process.stdout.close()


def contents(path):
    """Of a file; of an archive, which also has the time, those of its members."""
    if not os.path.exists(path):
        return b""
    if path.endswith(".npz"):
        with zipfile.ZipFile(path) as archive:
            return b"\0".join(name.encode() + archive.read(name) for name in archive.namelist())
    with open(path, "rb") as f:
        return f.read()


def sample(ids, count):
    """Of the ids an even share, the same every time."""
    ids = sorted(ids)
    random.Random(1).shuffle(ids)
    return ids[:count]


class Chaos:
    def __init__(self, arguments):
        self.build, self.model, self.device = os.path.join(ROOT, arguments.build), arguments.model, arguments.device
        self.only, self.seconds = arguments.only, arguments.seconds
        self.control = Control(os.path.join(self.build, "tests", "chaos", "failing.so"))
        self.rows, self.bad, self.all = [], [], {}
        with open(os.path.join(self.model, "config.json"), encoding="utf-8") as f:
            self.requests = requests(json.load(f)["hidden_size"])

    def daemon(self):
        return Daemon(self.build, self.control, self.model, self.device)

    # ---- programs that run and end ----

    def started(self, want):
        """Outcome of a daemon's life: start, one request, stop."""
        d = self.daemon()
        if d.port is None:
            status = "hangs" if d.hung else d.process.wait()
            d.stop()
            if status == 1 and re.search(r"^samebitd: \S", d.words(), re.M):
                return "an error, said", d.words()
            return f"start: {status}", d.words()
        status, body = d.ask(*self.requests["logits"])
        ended = d.stop()
        if ended != 0:
            return f"stop: {ended}", d.words()
        if status == 200:
            return ("same bytes" if want in (None, body) else "other bytes"), body
        if status in ("no reply", "broke off"):
            return status, b""
        return ("an error, said" if isinstance(status, int) and status >= 500 else f"status {status}"), body

    def tool(self, arguments, out):
        """Outcome of the tool: (status, bytes it wrote, words)."""
        if os.path.exists(out):
            os.unlink(out)
        try:
            done = subprocess.run([os.path.join(self.build, "samebit"), *arguments], cwd=ROOT, env=self.control.environment,
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=HUNG, check=False)
        except subprocess.TimeoutExpired:
            return "hangs", b"", b""
        written = contents(out)
        return done.returncode, done.stdout + b"\0" + written, done.stderr

    def judged(self, found, want):
        status, what, words = found
        if status == want[0] and what == want[1]:
            return "same bytes", words
        if isinstance(status, int) and status > 0 and words.startswith(b"samebit: ") and what.endswith(b"\0"):
            return "an error, said", words
        return f"ends with {status}, {'other bytes' if status == want[0] else 'half said'}", words

    def program(self, name, run, share):
        """run(None) gives what is right, run(want) an outcome; every site that the first meets is refused."""
        self.control.refuse(0)
        self.control.forget()
        self.control.record(1)
        want = run(None)
        self.control.record(0)
        self.try_sites(name, self.control.sites(), lambda site: self.refused(site, run, want), share)

    def refused(self, site, run, want):
        self.control.refuse(site)
        outcome, words = run(want)
        return outcome if self.control.at.refused or outcome not in GOOD else "not met again", words

    # ---- requests of one daemon ----

    def request(self, name, share):
        self.control.refuse(0)
        d, asked = self.daemon(), self.requests[name]
        right = [d.ask(*asked) for _ in range(3)]
        want = right[-1]
        self.control.forget()
        self.control.record(1)
        for _ in range(3):
            d.ask(*asked)
        self.control.record(0)
        place = [d]
        self.try_sites(name, self.control.sites(), lambda site: self.answered(site, asked, want, place), share)
        ended = place[0].stop()
        if ended != 0:
            self.bad.append((name, None, f"stop: {ended}", place[0].words()[-2000:]))

    def answered(self, site, asked, want, place):
        d = place[0]
        before = self.settled(d, asked)
        self.control.refuse(site)
        found = d.ask(*asked)
        met = self.control.at.refused
        self.control.refuse(0)
        if d.process.poll() is not None or found[0] == "hangs":
            words, status = d.words(), d.stop()
            place[0] = self.daemon()
            return f"dies: {status}" if found[0] != "hangs" else "hangs", words
        after, began = d.ask(*asked), time.monotonic()
        while after[0] == 503 and time.monotonic() - began < HUNG / 4:  # the run of a client that got no reply ends soon
            after = d.ask(*asked)
        if after != want:
            ended = place[0].stop()
            words = after[1][:300].decode(errors="replace") + "\n" + d.words()
            place[0] = self.daemon()
            return f"the next one: {after[0]}; then {ended}", words
        if met and self.keeps(site, asked, d, before):
            return "keeps memory", b""
        return self.outcome(found, want, met), found[1][:300]

    def settled(self, d, asked):
        """Allocations that are held between requests, when nothing changes any more."""
        seen = None
        for _ in range(40):
            now = self.control.at.live
            if now == seen:
                break
            seen = now
            time.sleep(0.002)
        return seen

    def keeps(self, site, asked, d, before):
        """Whether each refusal leaves more behind."""
        if self.settled(d, asked) <= before:
            return False
        counts = []
        for _ in range(40):  # OpenSSL remembers its last 16 errors
            self.control.refuse(site)
            d.ask(*asked)
            self.control.refuse(0)
            d.ask(*asked)
            time.sleep(0.02)
            counts.append(self.settled(d, asked))
        return counts[-1] - counts[20] >= 19

    @staticmethod
    def outcome(found, want, met):
        status, body = found
        if found == want:
            return "same bytes" if met else "not met again"
        if status in ("no reply", "broke off"):
            return status
        if status >= 500 or status == want[0] >= 400:
            return "an error, said" if b'"message"' in body else f"status {status} without a word"
        if status == 200 and b'"error"' in body[-500:]:
            return "an error, said"  # of a stream
        return f"status {status}, other bytes" if status == 200 else f"status {status}"

    # ---- all ----

    def try_sites(self, name, sites, one, share):
        self.all |= {i: s for i, s in sites.items()}
        counts, began = collections.Counter(), time.monotonic()
        for site in sample(sites, len(sites)):
            if share and time.monotonic() - began > share:
                break
            outcome, words = one(site)
            if re.search(r" -(6|11)\b", outcome) and sites[site][1][1].startswith("libcrypto") and name.startswith(("start", "tool")):
                outcome = EXPLAINED
            counts[outcome] += 1
            if outcome not in GOOD and outcome != EXPLAINED:
                words = words.decode(errors="replace") if isinstance(words, bytes) else words
                self.bad.append((name, site, outcome, words[-1500:]))
        self.control.refuse(0)
        self.rows.append((name, len(sites), counts))
        print(f"{name:<18}{len(sites):>6}{sum(counts.values()):>7}  " + "; ".join(f"{n} {what}" for what, n in counts.most_common()), flush=True)

    def tools(self, share):
        """The tool, on files and a daemon that nothing is refused."""
        healthy = Control.__new__(Control)
        healthy.environment = dict(os.environ)
        d = Daemon(self.build, healthy, self.model, "cpu")
        url = f"http://127.0.0.1:{d.port}"
        with tempfile.TemporaryDirectory() as folder:
            one, out = os.path.join(folder, "one.safetensors"), os.path.join(folder, "out.npz")
            asked = ["trace", "--url", url, "--tokens", "1,2,3", "--values"]
            subprocess.run([os.path.join(self.build, "samebit"), *asked, "*", "-o", one], cwd=ROOT, check=True, capture_output=True)
            for name, arguments in (("tool: compare", ["compare", one, one]), ("tool: npz", [*asked, "*_final", "-o", out]),
                                    ("tool: daemon", ["compare", one, url])):
                if self.only in name:
                    self.program(name, lambda want, a=arguments: self.tool(a, out) if want is None else
                                 self.judged(self.tool(a, out), want), share)
        d.stop()

    def run(self):
        names = [n for n in self.requests if self.only in n]
        parts = len(names) + 3 * ("tool" in self.only or not self.only) + 2 * (self.only in "start-up")
        share = self.seconds / max(1, parts) if self.seconds else None
        print(f"{'':<18}{'sites':>6}{'tried':>7}")
        if self.only in "start-up":
            self.program("start-up", lambda want: self.started(None)[1] if want is None else self.started(want), 2 * share if share else None)
        for name in names:
            self.request(name, share)
        if not self.only or "tool" in self.only:
            self.tools(share)
        return self.close()

    def close(self):
        total = collections.Counter()
        for _, _, counts in self.rows:
            total.update(counts)
        print(f"{len(self.all)} sites, {sum(total.values())} refusals: " + "; ".join(f"{n} {what}" for what, n in total.most_common()))
        for name, site, outcome, words in self.bad[:40]:
            print(f"\nBAD {name}: {outcome}")
            if site:
                call, frames = self.all[site]
                print(f"    {call} refused, called from")
                for line in places(self.build, name, frames):
                    print(f"        {line}")
            print("".join(f"    | {line}\n" for line in words.splitlines()[-12:]), end="")
        return 1 if self.bad or not total else 0


def places(build, name, frames):
    """Names of functions and lines, as far as they can be found."""
    out = []
    for frame in frames[1:9]:
        module, offset = frame.split("+")
        program = os.path.join(build, "samebit" if name.startswith("tool") else "samebitd")
        if module == "program":
            done = subprocess.run(["addr2line", "-fsCe", program, hex(int(offset, 16) - 1)], capture_output=True, text=True, check=False)
            frame = " ".join(done.stdout.split()) or frame
        out.append(frame)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--device", default="cpu")
    p.add_argument("--only", default="")
    p.add_argument("--seconds", type=float, help="an even sample of the sites, for about so long")
    return Chaos(p.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
