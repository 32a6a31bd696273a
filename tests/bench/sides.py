"""Those who are measured: samebitd over HTTP, PyTorch and llama.cpp in processes of their own.

A side has a name and the process's pid, and answers in seconds:

    prefill(tokens)             until the token after the prompt is known
    first(tokens)               the same as a reader sees it: until the first token has arrived
    decode(tokens, steps)       of that many steps after a prefill
    streams(prompts, steps)     of all prompts at once, prefill and steps; prompts are equally long
"""
import concurrent.futures
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time

import daemon

HERE = os.path.dirname(os.path.abspath(__file__))
JSON = {"Content-Type": "application/json"}
FULL = 503  # the daemon has as many runs as it takes


class Samebit:
    def __init__(self, server, attention):
        self.server, self.name, self.attention = server, f"samebit {attention}", attention
        self.pid = server.process.pid

    def _body(self, **fields):
        return json.dumps({**fields, "attention": self.attention}).encode()

    def prefill(self, tokens):
        start = time.perf_counter()
        self.server.json("/v1/logits", {"tokens": tokens, "positions": "last", "top_k": 1, "attention": self.attention})
        return time.perf_counter() - start

    def _arrivals(self, tokens, count):
        """Seconds after the request at which each token of a streamed reply came."""
        c = http.client.HTTPConnection(*self.server.address, timeout=daemon.REPLY_SECONDS)
        start = time.perf_counter()
        c.request("POST", "/v1/generate", self._body(tokens=tokens, max_tokens=count, stop_at_eos=False, stream=True), JSON)
        reply, times = c.getresponse(), []
        if reply.status != 200:
            raise daemon.Trouble(f"POST /v1/generate: {reply.status} {reply.read()[:200]!r}")
        while line := reply.readline():
            if b'"token"' in line:
                times.append(time.perf_counter() - start)
        c.close()
        if len(times) != count:
            raise daemon.Trouble(f"POST /v1/generate: {len(times)} tokens came, not {count}")
        return times

    def first(self, tokens):
        return self._arrivals(tokens, 1)[0]

    def decode(self, tokens, steps):
        times = self._arrivals(tokens, steps + 1)
        return times[-1] - times[0]

    def _generate(self, tokens, count):
        body = self._body(tokens=tokens, max_tokens=count, stop_at_eos=False)
        while (status := self.server.request("POST", "/v1/generate", body, JSON)[0]) == FULL:
            time.sleep(0.02)
        if status != 200:
            raise daemon.Trouble(f"POST /v1/generate: {status}")

    def streams(self, prompts, steps):
        with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
            start = time.perf_counter()
            list(pool.map(lambda tokens: self._generate(tokens, steps + 1), prompts))
            return time.perf_counter() - start


class Peer:
    """A process that speaks as peer.py says."""

    def __init__(self, command):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
        self.pid, self.name = self.process.pid, os.path.basename(command[1])
        self.facts = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise daemon.Trouble(f"{self.name} ended with status {self.process.wait()}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise daemon.Trouble(f"{self.name}: {answer['error']}")
        return answer

    def _last_words(self):
        self.log.seek(0)
        return self.log.read()[-200:].decode(errors="replace").strip()

    def ask(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()


class PeerSide:
    """One of the models that a peer has loaded.  fields: what every ask says besides."""

    def __init__(self, peer, name, **fields):
        self.peer, self.name, self.fields, self.pid = peer, name, fields, peer.pid

    def prefill(self, tokens):
        return self.peer.ask(work="prefill", tokens=tokens, **self.fields)

    first = prefill  # nothing lies between the model and its caller

    def decode(self, tokens, steps):
        return self.peer.ask(work="decode", tokens=tokens, steps=steps, **self.fields)

    def streams(self, prompts, steps):
        return self.peer.ask(work="streams", prompts=prompts, steps=steps, **self.fields)


def open_torch(python, folder, threads, attentions):
    return Peer([python or sys.executable, os.path.join(HERE, "peer_torch.py"), folder, str(threads), ",".join(attentions)])


def open_llama(python, gguf, threads, context):
    return Peer([python, os.path.join(HERE, "peer_llama.py"), gguf, str(threads), str(context)])


class Llama:
    """Where llama.cpp and its files are: python, or why there is none."""

    def __init__(self, python, why, cache):
        self.python, self.why, self.folder = python, why, os.path.join(cache, "gguf")

    def file_of(self, name, folder):
        """The GGUF file of a model, made where it is missing or older than the weights."""
        path, weights = os.path.join(self.folder, name + ".gguf"), daemon.checkpoint_files(folder)
        if os.path.exists(path) and os.path.getmtime(path) >= max(map(os.path.getmtime, weights)):
            return path
        os.makedirs(self.folder, exist_ok=True)
        done = subprocess.run([self.python, os.path.join(HERE, "hf_to_gguf.py"), folder, path], capture_output=True, text=True)
        if done.returncode:
            raise daemon.Trouble(done.stderr.strip()[-300:])
        return path
