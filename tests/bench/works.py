"""The works that are measured.  Each is a function of a Scene, and gives rows (figures.py)."""
import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import time

import daemon
import figures
import machine
import sides

PROMPT, STEPS = 16, 32  # of a decode
STREAMS = [1, 2, 4, 8, 16]
FORMS, LOGITS = ["digest", "binary", "json"], "logits alone, binary"
NEW_SECONDS = 4  # until freed memory is new again, where a host takes it back meanwhile
CONTEXT = 4608  # tokens for which llama.cpp keeps room


def prompt_of(tokens, number, vocabulary):
    """The prompt of that number; those of other numbers begin otherwise."""
    return [(i * 7919 + number * 97) % min(vocabulary, 32000) for i in range(tokens)]


class Scene:
    """A model and those who run it: its samebitd, its peers' sides, the machine's limits.

    threads, rounds (0: each work's own), quick; attention: samebit's and PyTorch's for works that
    are not done with each."""

    def __init__(self, name, folder, settings, limits):
        self.name, self.folder, self.settings, self.limits = name, folder, settings, limits
        self.config = machine.config_of(folder)
        self.sides, self.server, self.attention = [], None, settings.attention[0]
        self.numerics = None  # of its samebitd
        self.prompts = itertools.count(1)

    def prompt(self, tokens):
        """Of so many tokens; never one that was there before: samebitd would remember it."""
        return prompt_of(tokens, next(self.prompts), self.config["vocab_size"])

    def rounds(self, usual):
        return self.settings.rounds or (min(2, usual) if self.settings.quick else usual)

    def main_sides(self):
        """One of each program: with the attention that is looked at first."""
        return [s for s in self.sides if " " not in s.name or s.name.endswith(self.attention)]

    def samebit(self):
        return self.sides[0]

    def measure(self, work, unit, meters, rounds, warm=True, **more):
        """The row of meters that only these sides do."""
        others = machine.Others([s.pid for s in self.sides] + ([self.limits.pid] if self.limits else []))
        measured = figures.measure(meters, self.rounds(rounds), f"{self.name} {work}", warm)
        return figures.row(self.name, work, unit, measured, others=others.share(), **more)

    def with_limit(self, meters, what, cost):
        """The meters and that of the limit, whose figure is what a limit asked now over cost.  It
        comes right after samebit: what memory gives can change from one second to the next."""
        if not self.limits:
            return meters
        (first, ours), *rest = meters.items()
        return {first: ours, figures.LIMIT: lambda: self.limits.ask(what) / cost, **dict(rest)}


# What multiplies at most: the instruction whose order of a sum a numerics is; vdpbf16ps where none is named.
MULTIPLIERS = {"torch-cpu/amx_bf16": "tiles"}


def prefill(scene, tokens, rounds):
    meters = {s.name: lambda s=s: tokens / s.prefill(scene.prompt(tokens)) for s in scene.sides}
    meters = scene.with_limit(meters, MULTIPLIERS.get(scene.numerics, "multiply"), machine.operations(scene.config, tokens) / tokens)
    return [scene.measure(f"prefill {tokens}", "tokens/s", meters, rounds)]


def decode(scene):
    meters = {s.name: lambda s=s: STEPS / s.decode(scene.prompt(PROMPT), STEPS) for s in scene.sides}
    cost = machine.bytes_read(scene.config, scene.folder, PROMPT + STEPS / 2)
    return [scene.measure("decode", "tokens/s", scene.with_limit(meters, "read", cost), 15)]


def first_token(scene, tokens, rounds):
    meters = {s.name: lambda s=s: 1e3 * s.first(scene.prompt(tokens)) for s in scene.main_sides()}
    return [scene.measure(f"first token {tokens}", "ms", meters, rounds)]


def streams(scene):
    """So many at once, all counts in turn; tokens of all of them together, their prefills included."""
    counts = STREAMS[:-1] if scene.settings.quick else STREAMS
    meters = {(s.name, n): lambda s=s, n=n: n * (STEPS + 1) / s.streams([scene.prompt(PROMPT) for _ in range(n)], STEPS)
              for n in counts for s in scene.main_sides()}
    others = machine.Others([s.pid for s in scene.sides])
    measured, skipped = figures.measure(meters, scene.rounds(5), f"{scene.name} streams", warm=False)
    return [figures.row(scene.name, f"streams {n}", "tokens/s",
                        ({name: f for (name, m), f in measured.items() if m == n},
                         {name: why for (name, m), why in skipped.items() if m == n}),
                        others=others.share()) for n in counts]


def busy_loop():
    """A process that takes one core and leaves it to nobody who asks less often."""
    core = min(os.sched_getaffinity(0))
    return subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"])


def disturbed_share(scene, side, steps):
    """Decode while another process holds a core, as a share of decode without."""
    alone = side.decode(scene.prompt(PROMPT), steps)
    loop = busy_loop()
    try:
        time.sleep(0.2)
        return alone / side.decode(scene.prompt(PROMPT), steps)
    finally:
        loop.kill()
        loop.wait()


def disturbed(scene):
    if len(os.sched_getaffinity(0)) < 2 or scene.settings.threads < 2:
        return []
    meters = {s.name: lambda s=s: disturbed_share(scene, s, 8) for s in scene.main_sides()}
    measured = figures.measure(meters, scene.rounds(3), f"{scene.name} disturbed", warm=False)
    return [figures.row(scene.name, "disturbed", "of undisturbed", measured)]


# ---- tracing ----

def fetch(address, path, body):
    """Seconds and bytes of a reply that is read and dropped as it comes."""
    data = json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n")
    buffer, size, start = bytearray(1 << 20), 0, time.perf_counter()
    with socket.create_connection(address, daemon.REPLY_SECONDS) as s:
        s.sendall(head.encode() + data)
        while got := s.recv_into(buffer):
            if not size and not buffer.startswith(b"HTTP/1.1 200"):
                raise daemon.Trouble(f"POST {path}: {bytes(buffer[:300])!r}")
            size += got
    return time.perf_counter() - start, size


def trace(scene, what, tokens, steps):
    """A run with every value handed out in each form, and the same run with none; milliseconds.  One
    with none computes the last row of logits alone, so that of all rows of them stands beside it."""
    sizes = {}

    def untraced():
        body = {"tokens": scene.prompt(tokens), "attention": scene.attention, "max_tokens": steps + 1, "stop_at_eos": False}
        return 1e3 * fetch(scene.server.address, "/v1/generate", body)[0]

    def traced(name, values, form):
        body = {"tokens": scene.prompt(tokens), "attention": scene.attention, "steps": steps, "values": [values], "format": form}
        seconds, sizes[name] = fetch(scene.server.address, "/v1/trace", body)
        return 1e3 * seconds

    meters = {"untraced": untraced, LOGITS: functools.partial(traced, LOGITS, "logits", "binary"),
              **{form: functools.partial(traced, form, "*", form) for form in FORMS}}
    made = scene.measure(f"trace {what}", "ms", meters, 5, bytes=sizes, tokens=tokens, steps=steps)
    return [made]


# ---- start-up and memory ----

def started(scene):
    """{name: function that starts the side}, as a context manager with the seconds of loading of a peer."""
    s = scene.settings
    made = {"samebit": lambda: daemon.Daemon(scene.folder, scene.numerics, s.threads),
            "PyTorch": lambda: sides.open_torch(s.torch_python, scene.folder, s.threads, [scene.attention])}
    if scene.gguf:
        made["llama.cpp"] = lambda: sides.open_llama(s.llama.python, scene.gguf, s.threads, 1024)
    return made


def side_of(scene, running):
    if isinstance(running, daemon.Daemon):
        return sides.Samebit(running, scene.attention)
    return sides.PeerSide(running, "", attention=scene.attention)


def start_seconds(scene, start):
    """Until the first answer: of samebitd since its process began; of a peer since loading began,
    its interpreter and libraries not counted."""
    time.sleep(NEW_SECONDS)
    begin = time.perf_counter()
    with start() as running:
        ready = time.perf_counter() - begin
        loading = ready if isinstance(running, daemon.Daemon) else running.facts["loading"]
        return loading + side_of(scene, running).first(scene.prompt(PROMPT))


def touch_seconds(scene):
    """Until as much new memory as the checkpoint's has been written to: what a copy costs at least."""
    time.sleep(NEW_SECONDS)
    return machine.checkpoint_bytes(scene.folder) / scene.limits.ask("touch")


def start_up(scene):
    meters = {name: lambda start=start: start_seconds(scene, start) for name, start in started(scene).items()}
    if scene.limits:
        meters[figures.LIMIT] = lambda: touch_seconds(scene)
    return [figures.row(scene.name, "start-up", "s",
                        figures.measure(meters, scene.rounds(3), f"{scene.name} start-up"))]


def peak_megabytes(scene, start):
    """Of a process that answered a prompt of 512 and decoded."""
    with start() as running:
        side = side_of(scene, running)
        side.prefill(scene.prompt(512))
        side.decode(scene.prompt(PROMPT), STEPS)
        return machine.peak_bytes(side.pid) / 1e6


def memory(scene):
    meters = {name: lambda start=start: peak_megabytes(scene, start) for name, start in started(scene).items()}
    measured = figures.measure(meters, 1, f"{scene.name} memory", warm=False)
    return [figures.row(scene.name, "memory", "MB", measured, checkpoint=machine.checkpoint_bytes(scene.folder) / 1e6)]


WORKS = {
    "prefill 16": lambda s: prefill(s, 16, 15),
    "prefill 512": lambda s: prefill(s, 512, 7),
    "prefill 2048": lambda s: prefill(s, 2048, 3),
    "decode": decode,
    "first token 16": lambda s: first_token(s, 16, 9),
    "first token 512": lambda s: first_token(s, 512, 5),
    "streams": streams,
    "disturbed": disturbed,
    "trace prefill": lambda s: trace(s, "prefill", 64, 0),
    "trace decode": lambda s: trace(s, "decode", 16, 16),
    "start-up": start_up,
    "memory": memory,
}
