#!/usr/bin/env python3
"""Hours of mixed load on one samebitd: every reply is compared with the same request's first one, asked alone; memory and
descriptors must not grow after a warm-up.  Exit status 1 when a reply differed or something grew.

    python tests/soak/soak.py --samebitd build/samebitd --model FOLDER --minutes 60 [--out FILE.json]

Eight clients ask for digests, logits, texts, tokens and facts, in turn and under both attentions; others leave in the middle,
do not read, send half a body, send nonsense, drip.  The samples (seconds, MB resident, descriptors, replies) go to --out.
"""
import argparse
import collections
import hashlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def requests(dice, count):
    """(method, path, body) of requests with one right answer each."""
    out = [("GET", "/v1/model", None), ("GET", "/v1/values?layer=0", None)]
    for i in range(count):
        tokens = [dice.randrange(1, 1000) for _ in range(dice.choice([1, 3, 17, 60]))]
        attention = dice.choice(["eager", "sdpa"])
        out += [("POST", "/v1/trace", {"tokens": tokens, "values": ["*"], "format": "digest", "attention": attention, "steps": i % 3}),
                ("POST", "/v1/trace", {"tokens": tokens, "values": ["*_final", "logits"], "attention": attention, "positions": "last"}),
                ("POST", "/v1/logits", {"tokens": tokens, "top_k": 5, "attention": attention}),
                ("POST", "/v1/generate", {"tokens": tokens, "max_tokens": 1 + i % 8, "stream": bool(i & 1)}),
                ("POST", "/v1/tokenize", {"text": "word " * dice.randrange(1, 200)}), ("POST", "/v1/detokenize", {"tokens": tokens})]
    return out


class Soak:
    def __init__(self, port, pid, seed):
        self.port, self.pid, self.dice = port, pid, random.Random(seed)
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.counts, self.wrong = collections.Counter(), []
        self.asked = requests(self.dice, 20)
        self.expected = [self.ask(c, *one)[1] for c in [self.connect()] for one in self.asked]

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def ask(self, connection, method, path, body):
        connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, hashlib.sha256(reply.read()).hexdigest()

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def honest(self, seed):
        dice, connection = random.Random(seed), self.connect()
        while not self.stop.is_set():
            i = dice.randrange(len(self.asked))
            try:
                status, digest = self.ask(connection, *self.asked[i])
            except (OSError, http.client.HTTPException) as problem:
                status, digest = repr(problem), None
                connection = self.connect()
            self.count("503" if status == 503 else "replies")
            if status != 503 and (status != 200 or digest != self.expected[i]):
                self.wrong.append((self.asked[i], status))

    def rude(self, seed):
        dice = random.Random(seed)
        body = json.dumps({"tokens": [1] * 60, "values": ["*"], "steps": 20}).encode()
        head = b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        while not self.stop.is_set():
            kind = dice.choice(["leaves", "stalls", "half", "nonsense", "drips", "large"])
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
                    if kind in ("leaves", "stalls"):
                        s.sendall(head % len(body) + body)
                        s.recv(1000)
                        time.sleep(dice.random() * (2 if kind == "stalls" else 0.05))
                    elif kind == "half":
                        s.sendall(head % len(body) + body[:40])
                    elif kind == "nonsense":
                        s.sendall(dice.randbytes(dice.randrange(2000)) + b"\r\n\r\n")
                        s.recv(1000)
                    elif kind == "drips":
                        for byte in (head % 5)[:30]:
                            s.sendall(bytes([byte]))
                            time.sleep(0.02)
                    else:
                        s.sendall(head % (8 << 20) + b" " * dice.randrange(8 << 20))
            except OSError:
                pass
            self.count(kind)

    def sample(self, began):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as f:
            resident = int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) / 1024
        return (round(time.monotonic() - began, 1), round(resident, 1), len(os.listdir(f"/proc/{self.pid}/fd")), self.counts["replies"])

    def run(self, minutes):
        threads = [threading.Thread(target=self.honest, args=(i,)) for i in range(8)]
        threads += [threading.Thread(target=self.rude, args=(100 + i,)) for i in range(4)]
        for t in threads:
            t.start()
        began, samples = time.monotonic(), []
        while time.monotonic() - began < minutes * 60:
            time.sleep(1)
            samples.append(self.sample(began))
        self.stop.set()
        for t in threads:
            t.join()
        time.sleep(3)
        samples.append(self.sample(began))
        return samples


def growth(samples):
    """MB between the medians of the second and the last quarter; descriptors left beside those before the load."""
    quarter = max(1, len(samples) // 4)
    middle = sorted(s[1] for s in samples[quarter:2 * quarter])
    end = sorted(s[1] for s in samples[-quarter:])
    return end[len(end) // 2] - middle[len(middle) // 2]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--samebitd", default=os.path.join(ROOT, "build", "samebitd"))
    p.add_argument("--model", required=True)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--out")
    p.add_argument("--numerics", default="torch-cpu/avx512_bf16", help="default: those that are fast on any CPU")
    a = p.parse_args()
    d = subprocess.Popen([os.path.abspath(a.samebitd), "--model", a.model, "--listen", "127.0.0.1:0", "--numerics", a.numerics],
                         cwd=ROOT, stdout=subprocess.PIPE)
    port = int(re.search(rb"127\.0\.0\.1:(\d+)", d.stdout.readline())[1])
    soak = Soak(port, d.pid, 1)
    idle = soak.sample(time.monotonic())[2]
    samples = soak.run(a.minutes)
    grown, left = growth(samples), samples[-1][2] - idle
    d.send_signal(signal.SIGTERM)
    status = d.wait(30)
    if a.out:
        with open(a.out, "w", encoding="utf-8") as f:
            json.dump({"columns": ["seconds", "resident MB", "descriptors", "replies"], "samples": samples, "counts": soak.counts}, f)
    print(f"{a.minutes} minutes: {soak.counts['replies']:,} replies, {len(soak.wrong)} other than alone; "
          f"{sum(soak.counts[k] for k in ('leaves', 'stalls', 'half', 'nonsense', 'drips', 'large')):,} rude clients; {soak.counts['503']} times 503")
    print(f"resident {max(s[1] for s in samples):.0f} MB at most, grown {grown:.1f} MB after the warm-up; {left} descriptors left; ended with {status}")
    for request, found in soak.wrong[:5]:
        print("wrong:", found, json.dumps(request)[:200])
    return 1 if soak.wrong or grown > 16 or left > 1 or status else 0


if __name__ == "__main__":
    sys.exit(main())
