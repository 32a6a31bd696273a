"""Readers who stall, readers who leave, many at once, and being told to stop meanwhile."""
import json
import os
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import BINARY, HELD, JSON, PATIENCE, PLAIN, TOKENS, Daemon, long_run, post_bytes, settle, slow_run, wait_for

# A reader who stalls holds no place, but memory: with this nothing else starts beside a run.
ONE_BY_ONE = {"running": 1, "together": 0, "waiting": 1, "all_memory_bytes": 1}
QUICK = {"tokens": TOKENS, "values": ["*"], "format": "digest"}


def begin(daemon, body, accept=BINARY, read=1 << 12):
    """A reader who has read a little and now reads no more."""
    s = daemon.socket(receive_buffer=1 << 14)
    s.sendall(post_bytes("/v1/trace", body, accept))
    got = s.recv(read)
    assert got.startswith(b"HTTP/1.1 200")
    return s


def occupy(daemon, body, read):
    """A socket whose run has the only worker; read: it has given its first bytes."""
    for patience in range(1, 6):
        s = daemon.socket(receive_buffer=1 << 14)
        s.sendall(post_bytes("/v1/trace", body))
        if read:
            s.recv(1 << 12)
        time.sleep(0.3 * patience)
        if not is_free(daemon):
            return s
        s.close()  # the look at the worker was faster than the run
    raise AssertionError("the worker stays free")


def is_free(daemon, seconds=1.5):
    """Whether the only worker takes a run at once (a daemon that lets runs wait has seconds for it)."""
    with daemon.socket(seconds) as s:
        s.sendall(post_bytes("/v1/trace", json.dumps(QUICK).encode(), JSON))
        try:
            reply = s.recv(1 << 12)
        except TimeoutError:
            return False
    assert b" 200 " in reply[:20] or b" 503 " in reply[:20]
    return b" 200 " in reply[:20]


def test_a_reader_who_stalls_holds_back_the_run_not_the_memory(start):
    d, slack = start({"running": 2, "together": 2}, environment=HELD), 96 << 20
    tokens = [i % 1000 for i in range(1500)]
    assert d.post("/v1/trace", json.loads(long_run(tokens=tokens, values=["logits"]))).status == 200  # all is warm
    before = d.rss()
    reader = d.socket(receive_buffer=1 << 14)
    reader.sendall(post_bytes("/v1/trace", long_run(tokens=tokens)))
    got = reader.recv(1 << 12)
    assert int(got.split(b"Content-Length: ")[1].split(b"\r\n")[0]) > 2 * slack
    time.sleep(1.0)
    assert (d.rss() - before) * 1024 < slack
    for _ in range(5):
        assert d.post("/v1/trace", QUICK).status == 200
        assert d.get("/v1/values").status == 200
    # and on it goes when it is read at last
    count = len(got)
    while count < slack:
        part = reader.recv(1 << 20)
        assert part
        count += len(part)
    assert (d.rss() - before) * 1024 < slack
    reader.close()


def test_a_slow_reader_gets_the_same_bytes(start):
    d = start()
    body = json.dumps({"tokens": list(range(200)), "values": ["*"], "steps": 3}).encode()
    want = d.request("POST", "/v1/trace", body, {"Content-Type": JSON, "Accept": BINARY})
    for accept in (BINARY, JSON):
        s = d.socket(receive_buffer=1 << 14)
        s.sendall(post_bytes("/v1/trace", body, accept, "Connection: close\r\n"))
        got = bytearray()
        while part := s.recv(1 << 20):
            got += part
            if len(got) < 1 << 20:
                time.sleep(0.005)
        s.close()
        if accept == BINARY:
            assert bytes(got).split(b"\r\n\r\n", 1)[1] == want.body
        else:
            assert got.endswith(b"0\r\n\r\n")


def test_a_reader_who_leaves_frees_the_worker(start):
    d = start(ONE_BY_ONE, *PLAIN)
    for how in ("close", "reset", "half"):
        for waits in (False, True):
            # asleep: nothing to read for a long time; or the ring is full
            s = occupy(d, slow_run(), False) if waits else occupy(d, long_run(), True)
            if how == "reset":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if how == "half":
                s.shutdown(socket.SHUT_WR)
            else:
                s.close()
            wait_for(lambda: is_free(d))
            s.close()
    assert d.alive()


def test_the_next_request_of_a_client_finds_its_worker_free(start):
    d = start({"running": 1, "together": 0, "waiting": 0})
    for accept in (BINARY, JSON):
        for _ in range(100):
            assert d.request("POST", "/v1/trace", {"tokens": TOKENS, "values": ["logits"]}, {"Accept": accept}).status == 200
    for _ in range(100):
        assert d.post("/v1/generate", {"tokens": TOKENS, "max_tokens": 2}).status == 200


def test_leaving_while_queued(start):
    d = start(ONE_BY_ONE)
    running = begin(d, long_run())
    queued = d.socket()
    queued.sendall(post_bytes("/v1/trace", json.dumps(QUICK).encode(), JSON))
    time.sleep(1)
    assert not is_free(d)
    queued.close()
    time.sleep(0.3)
    running.close()
    wait_for(lambda: is_free(d))


def test_a_full_queue(start):
    d = start({"running": 1, "together": 0, "waiting": 0}, *PLAIN)
    running = occupy(d, slow_run(), False)
    reply = d.post("/v1/trace", QUICK)
    assert reply.error[0] == 503 and int(reply.headers["Retry-After"]) > 0
    assert d.get("/health").status == 200 and d.post("/v1/tokenize", {"text": "a"}).status == 200
    running.close()


def test_too_slow_before_the_first_byte(start):
    """A run, and another that waits for its worker."""
    d = start({"running": 1, "together": 0, "waiting": 1, "seconds": 1}, *PLAIN)
    running = d.socket()
    running.sendall(post_bytes("/v1/trace", slow_run()))
    time.sleep(0.1)
    began = time.monotonic()
    reply = d.request("POST", "/v1/trace", slow_run(), {"Content-Type": JSON})
    assert reply.error[0] == 504 and "seconds" in reply.error[2]
    assert time.monotonic() - began > 0.5
    assert b" 504 " in running.recv(1 << 16)
    running.close()


def test_too_slow_after_the_first_byte(start):
    """The transfer breaks; it never ends as if it were whole."""
    d = start({"seconds": 2})
    for accept, version in ((BINARY, "1.1"), (JSON, "1.1"), (JSON, "1.0")):
        s = d.socket(receive_buffer=1 << 14)
        s.sendall(post_bytes("/v1/trace", long_run(), accept).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        got, broken = bytearray(s.recv(1 << 12)), False
        time.sleep(3)
        try:
            while part := s.recv(1 << 20):
                got += part
        except ConnectionResetError:
            broken = True
        assert b" 200 OK" in got[:20]
        if version == "1.0":
            assert broken
        elif accept == JSON:
            assert not got.endswith(b"0\r\n\r\n")
        else:
            size = int(got.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            assert len(got.split(b"\r\n\r\n", 1)[1]) < size
        s.close()
    assert d.alive()


def test_many_at_once_give_equal_bits(start):
    d = start({"running": 4, "waiting": 64})
    bodies = [{"tokens": list(range(i, i + 40)), "values": ["*"], "format": "digest", "steps": 2} for i in range(4)]
    want = [d.post("/v1/trace", body).json for body in bodies]
    found = []

    def ask(i):
        for k in range(6):
            found.append(d.post("/v1/trace", bodies[(i + k) % 4]).json == want[(i + k) % 4])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 48 and all(found)


def test_threads_do_not_change_bits(daemon, start):
    d = start({}, "--threads", "3")
    body = {"tokens": list(range(40)), "values": ["*"], "format": "digest", "steps": 2}
    assert d.post("/v1/trace", body).json["values"] == daemon.post("/v1/trace", body).json["values"]
    assert d.get("/v1/model").json["threads"] == 3


def test_numerics_are_chosen_and_named(daemon, start):
    d = start({}, "--numerics", "torch-cpu/avx2")
    body = {"tokens": list(range(200)), "values": ["*"], "format": "digest"}
    reply = d.post("/v1/trace", body | {"numerics": "torch-cpu/avx2", "attention": "eager"})
    assert reply.status == 200 and reply.json["numerics"] == "torch-cpu/avx2"
    status, param, message = d.post("/v1/trace", body | {"numerics": "torch-cpu/avx512_bf16"}).error
    assert (status, param) == (400, "numerics") and "torch-cpu/avx2" in message
    assert daemon.post("/v1/trace", body).json["values"] != reply.json["values"]


def test_threads_of_torch_are_stated_where_bits_depend_on_them(start):
    d = start({}, "--numerics", "torch-cpu/amx_bf16", "--torch-threads", "3")
    reply = d.post("/v1/trace", {"tokens": [1, 2], "values": ["logits"], "format": "digest"})
    assert reply.json["numerics"] == "torch-cpu/amx_bf16" and reply.json["torch_threads"] == 3
    assert d.get("/v1/model").json["torch_threads"] == 3
    assert reply.json["torch_host"] == "l1=48K,l2=2M,l2_ways=16,amx_fp16=0"
    model = start({}, "--numerics", "torch-cpu/avx2").get("/v1/model").json
    assert not {"torch_threads", "torch_host"} & set(model)
    model = start({}, "--numerics", "torch-cpu/avx512", "--torch-threads", "3").get("/v1/model").json
    assert model["torch_threads"] == 3 and "torch_host" not in model


def test_a_request_has_threads_of_torch_of_its_own(models):
    """Bits as those of a daemon of so many; passes and prefixes are shared by no other."""
    folder, amx = os.path.join(models, "tiny-wide"), ("--numerics", "torch-cpu/amx_bf16", "--torch-threads")
    if not os.path.isdir(folder):
        pytest.skip("skip: only tests/run.py makes tiny-wide")
    body = {"tokens": [i * 7 % 256 for i in range(64)], "values": ["*"], "attention": "eager", "steps": 2, "format": "digest"}
    alone = {}
    for threads in (1, 2, 8):
        d = Daemon(folder, None, (*amx, str(threads)))
        alone[threads] = d.post("/v1/trace", body).json["values"]
        d.stop()
    assert len({json.dumps(values) for values in alone.values()}) == 2  # 1 and 8 are alike there, as PyTorch's goldens are
    d = Daemon(folder, None, (*amx, "1"))
    with ThreadPoolExecutor(6) as many:
        asked = [1, 2, 8, None, 2, 1]
        replies = list(many.map(lambda n: d.post("/v1/trace", body | ({"torch_threads": n} if n else {})).json, asked))
    for n, reply in zip(asked, replies):
        assert reply["torch_threads"] == (n or 1)
        assert reply["values"] == alone[n or 1]
    for n in (1, 2, 1):  # what was not asked for is taken from the cache of a run that began so
        got = d.post("/v1/trace", body | {"values": ["step_2/*"], "torch_threads": n}).json["values"]
        assert got == {name: value for name, value in alone[n].items() if name.startswith("step_2/")}
    text = d.post("/v1/generate", {"tokens": body["tokens"], "max_tokens": 2, "torch_threads": 8}).json
    assert text["torch_threads"] == 8
    binary = d.post("/v1/trace", body | {"format": "binary", "values": ["logits"], "torch_threads": 2})
    assert binary.metadata["torch_threads"] == "2" and binary.metadata["torch_host"].startswith("l1=48K")
    d.stop()


@pytest.mark.parametrize("value", [0, 257, "2", 1.5, [2]])
def test_threads_of_torch_that_are_none(start, value):
    d = start({}, "--numerics", "torch-cpu/amx_bf16", "--torch-threads", "3")
    assert d.post("/v1/logits", {"tokens": [1], "torch_threads": value}).error[:2] == (400, "torch_threads")


@pytest.mark.parametrize("route, more", [("trace", {"values": []}), ("logits", {}), ("generate", {}),
                                         ("trace", {"values": [], "numerics": "ideal"})])
def test_threads_of_torch_where_bits_depend_on_none(daemon, route, more):
    status, param, message = daemon.post(f"/v1/{route}", {"tokens": [1], "torch_threads": 2} | more).error
    assert (status, param) == (400, "torch_threads") and "depend on no threads" in message


# ---- readers who do not read ----

def test_readers_who_do_not_read_hold_no_place(start):
    d = start({"running": 2, "together": 2, "waiting": 64, "connections": 80})
    shared = json.dumps({"tokens": TOKENS, "values": ["*"], "steps": 2000}).encode()
    readers = [begin(d, body, JSON) for body in [shared, long_run()] * 8]
    for body in (json.loads(shared) | {"format": "digest"}, json.loads(long_run(steps=1))):
        assert d.post("/v1/trace", body).status == 200
    assert d.post("/v1/generate", {"tokens": TOKENS, "max_tokens": 4}).status == 200
    for s in readers:
        s.close()


def test_who_does_not_read_for_too_long_is_let_go(start):
    d = start({"stall_seconds": 1})
    for body in (json.dumps({"tokens": TOKENS, "values": ["*"], "steps": 2000}).encode(), long_run()):
        s = begin(d, body, JSON)
        time.sleep(2.5)
        s.settimeout(PATIENCE)
        try:
            while s.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass
        s.close()
    assert d.alive()


def test_queued_runs_hold_little_memory(start):
    """A few bytes ask for a hundred thousand values."""
    d = start({"running": 1, "together": 1, "waiting": 64, "connections": 80}, *PLAIN, environment=HELD)
    # one run shares a driver; the other, of many values that all come late, has one for itself, as those in the queue
    occupied = [occupy(d, slow_run(), False), d.socket()]
    occupied[1].sendall(post_bytes("/v1/trace", long_run(values=["step_9[5-9][0-9]/*"], steps=1000)))
    time.sleep(0.5)
    body = json.dumps({"tokens": [1], "values": ["*"], "steps": 2000}).encode()
    assert d.post("/v1/trace", {"tokens": [1], "values": ["*"], "steps": 2047, "replace": {"*": 1}}).status == 400  # all is warm
    before = d.rss()
    queued = [d.socket() for _ in range(50)]
    for s in queued:
        s.sendall(post_bytes("/v1/trace", body))
    time.sleep(3)
    assert (d.rss() - before) * 1024 < 50 * (2 << 20)
    refused = start({"running": 1, "waiting": 64, "all_memory_bytes": 1 << 20}, *PLAIN)
    occupied.append(occupy(refused, slow_run(), False))
    queued.append(refused.socket())
    queued[-1].sendall(post_bytes("/v1/trace", body))
    time.sleep(0.5)
    status, _, message = refused.post("/v1/trace", json.loads(body)).error
    assert status == 503 and "memory" in message
    for s in queued + occupied:
        s.close()


# ---- stopping ----

def test_sigterm_lets_accepted_runs_finish(start):
    """Those that run and those that are queued; nobody else."""
    limits = {"running": 1, "together": 1, "waiting": 20, "reuse_bytes": 0, "stop_seconds": 60}
    alone, d = start(limits, *PLAIN), start(limits, *PLAIN)
    generate = {"tokens": TOKENS, "max_tokens": 60, "stop_at_eos": False}
    asked = [("/v1/generate", json.dumps(generate | {"stream": i % 2 == 0}).encode(), "*/*") for i in range(4)]
    asked += [("/v1/trace", long_run(tokens=[1, 2, 3], steps=20), BINARY) for _ in range(3)]
    want = [alone.request("POST", path, body, {"Content-Type": JSON, "Accept": accept}).body for path, body, accept in asked]
    found = [None] * len(asked)

    def ask(i):
        path, body, accept = asked[i]
        reply = d.request("POST", path, body, {"Content-Type": JSON, "Accept": accept})
        found[i] = reply.status, reply.body

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asked))]
    for t in threads:
        t.start()
    wait_for(lambda: not is_free(d, 0.2))
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    try:
        late = d.post("/v1/generate", generate)
        assert late.error[0] == 503 and "stopping" in late.error[2]
    except ConnectionError:
        assert d.process.poll() is not None  # they were quick
    for t in threads:
        t.join()
    whole = [found[i] == (200, want[i]) for i in range(len(asked))]
    for i, reply in enumerate(found):  # the signal may have been faster than a request
        assert whole[i] or (reply[0] == 503 and b"stopping" in reply[1])
    assert sum(whole) > 2  # one of a kind ran, the others were queued
    assert d.process.wait(PATIENCE) == 0


def test_sigterm_tells_those_who_cannot_finish(start):
    d = start({"running": 2, "together": 0, "waiting": 4, "stop_seconds": 1}, *PLAIN)
    computing = [d.socket() for _ in range(5)]  # and those of them that are queued
    for s in computing:
        s.sendall(post_bytes("/v1/trace", slow_run()))
    idle = d.connect()
    idle.request("GET", "/health")
    idle.getresponse().read()
    settle(d)
    d.stop(signal.SIGTERM)
    for s in computing:
        said = s.recv(1 << 16)
        assert b" 503 " in said and b"stopping" in said, said
        s.close()
    idle.close()


def test_nobody_waits_for_a_stalled_reader(start):
    d = start({"stop_seconds": 60})
    stalled = begin(d, long_run())
    time.sleep(0.5)
    d.stop(signal.SIGTERM)
    stalled.close()


def test_a_stream_of_lines_says_why_it_ends(start):
    d = start({"stop_seconds": 0}, *PLAIN)
    s = d.socket()
    body = json.dumps({"tokens": TOKENS, "max_tokens": 2000, "stop_at_eos": False, "stream": True}).encode()
    s.sendall(post_bytes("/v1/generate", body, "*/*", "Connection: close\r\n"))
    got = bytearray(s.recv(1 << 12))
    d.process.send_signal(signal.SIGTERM)
    while part := s.recv(1 << 16):
        got += part
    s.close()
    assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"\r\n0\r\n\r\n")  # whole, as chunks go
    lines = [line for line in got.split(b"\r\n\r\n", 1)[1].split(b"\n") if line.startswith(b"{")]
    assert len(lines) > 1 and all("token" in json.loads(line) for line in lines[:-1])
    assert json.loads(lines[-1])["error"]["code"] == 503 and "stopping" in json.loads(lines[-1])["error"]["message"]
    assert d.process.wait(PATIENCE) == 0


def test_sigint_stops_too(start):
    start().stop(signal.SIGINT)


def test_a_second_signal_ends_it_at_once(start):
    d = start({**ONE_BY_ONE, "stop_seconds": 1000}, *PLAIN)
    computing = occupy(d, slow_run(), False)
    d.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "a second signal ends them" in d.said())
    d.process.send_signal(signal.SIGINT)
    assert d.process.wait(PATIENCE) in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)
    d.process.returncode = 0
    computing.close()
