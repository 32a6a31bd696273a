"""Clients that send slowly, little, too much, or leave: the others are served."""
import json
import os
import threading
import time

import pytest
from conftest import HELD, JSON, TOKENS, wait_for

HEAD = b"POST /v1/logits HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
QUICK = {"tokens": [1], "top_k": 1}


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def cpu(daemon):
    """Seconds."""
    with open(f"/proc/{daemon.process.pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("start_with", [b"", b"GET /v1/mo", HEAD % 1000 + b"{", HEAD % 1000 + b" " * 900,
                                        HEAD[:-2] % 1000 + b"Transfer-Encoding: chunked\r\n"])
def test_slow_senders_take_no_place(start, start_with):
    d = start({"connections": 4})
    slow = [d.socket() for _ in range(100)]
    for s in slow:
        s.sendall(start_with)
    for _ in range(5):
        for s in slow[::10]:
            s.sendall(b" " if start_with else b"G")
        assert d.get("/health").status == 200
        assert d.post("/v1/logits", QUICK).status == 200
    for s in slow:
        s.close()
    wait_for(lambda: descriptors(d) < 60)


def test_what_another_sent_is_not_told(daemon):
    """Heads are read into the same memory, one after the other: an error quotes its own request alone."""
    def ask(head):
        with daemon.socket() as s:
            s.sendall(head)
            return s.recv(1 << 16)

    other = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"Authorization: Bearer 0123456789abcdef\r\n" * 20 + b"\r\n"
    assert b" 200 " in ask(other)
    for pad in range(0, 39, 13):
        text = ask(b"GET /health HTTP/1.1\r\nHost: x\r\nX: %s\r\nContent-Length: 99999999999999999999\r\n" % (b"." * pad))
        assert b"Content-Length 99999999999999999999 is too large" in text, text


def test_who_waited_longest_makes_room(start):
    d = start({"arriving": 20})
    slow = [d.socket() for _ in range(60)]
    assert d.get("/health").status == 200
    assert slow[0].recv(10) == b""  # closed
    assert descriptors(d) < 80
    for s in slow:
        s.close()


def test_an_idle_connection_makes_room(start):
    """Only one that has been idle for a second: whoever is busy keeps its place."""
    d = start({"connections": 3})
    kept = [d.connect() for _ in range(3)]
    for c in kept:
        c.request("GET", "/health")
        c.getresponse().read()
    assert d.get("/v1/model").status == 503
    time.sleep(1.1)
    assert d.get("/v1/model").status == 200
    for c in kept:
        c.close()


def test_busy_connections_are_not_disturbed(start):
    """One too many, and it is that one which is told so."""
    d = start({"connections": 4})
    bad, stop = [], threading.Event()

    def ask():
        c = d.connect()
        while not stop.is_set():
            c.request("POST", "/v1/logits", json.dumps(QUICK), {"Content-Type": JSON})
            reply = c.getresponse()
            reply.read()
            if reply.status != 200:
                bad.append(reply.status)
        c.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    idle = [d.socket() for _ in range(10)]
    refused = 0
    time.sleep(0.3)
    for _ in range(3):
        refused += d.get("/v1/model").status == 503
    stop.set()
    for t in threads:
        t.join()
    for s in idle:
        s.close()
    assert not bad and refused == 3


@pytest.mark.parametrize("sent", [HEAD % 1000, HEAD % 1000 + b" " * 10, HEAD % (8 << 20) + b" " * (1 << 20),
                                  b"GET /health HT", HEAD[:-2] % 5 + b"X: y\r\n",
                                  b"POST /v1/logits HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"])
@pytest.mark.parametrize("pause", [0, 0.2])
def test_who_leaves_is_noticed(daemon, sent, pause):
    before = descriptors(daemon)
    s = daemon.socket()
    s.sendall(sent)
    time.sleep(pause)
    s.close()
    wait_for(lambda: descriptors(daemon) <= before)


def test_bodies_of_all(start):
    """Eight bodies of 8 MiB where 20 MiB may lie there: some are refused, the memory keeps to it."""
    d = start({"all_body_bytes": 20 << 20, "connections": 16}, environment=HELD)
    before = d.rss()
    senders = [d.socket() for _ in range(8)]
    for s in senders:
        s.sendall(b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
                  b"Content-Length: %d\r\n\r\n" % (8 << 20))
    for s in senders:
        s.sendall(b" " * ((8 << 20) - 1))
    time.sleep(0.3)
    assert d.rss() - before < 40 * 1024
    assert d.get("/health").status == 200
    for s in senders:
        s.sendall(b" ")
    statuses = [int(s.recv(4096).split()[1]) for s in senders]
    assert statuses.count(503) >= 5 and set(statuses) <= {413, 503}, statuses
    for s in senders:
        s.close()
    assert d.post("/v1/logits", QUICK).status == 200


def test_out_of_descriptors(start):
    """Nobody spins, and when there are some again all are served."""
    d = start()
    limit = descriptors(d) + 8
    os.system(f"prlimit --nofile={limit}:{limit} --pid {d.process.pid}")
    clients = [d.socket() for _ in range(40)]
    before = cpu(d)
    time.sleep(1)
    assert cpu(d) - before < 0.3
    assert d.get("/health").status == 200
    for s in clients:
        s.close()
    assert d.post("/v1/logits", QUICK).status == 200


def test_limits_come_before_work(daemon):
    """Each of these took half a minute to hours before there was a limit; its message says that it was the limit."""
    def limited(reply, status, param):
        assert reply.error[:2] == (status, param), reply.body
        assert "limit" in reply.error[2] or "more than" in reply.error[2], reply.error[2]

    many = {f"{i:x}": [1] for i in range(100000)}
    limited(daemon.post("/v1/trace", {"tokens": [1], "values": [], "replace": many}), 400, "replace")
    for glob in ("*[a-" * 60000, "*" * 1000, "a*" * 500):
        limited(daemon.post("/v1/trace", {"tokens": [1], "values": [glob]}), 400, "values[0]")
    limited(daemon.get("/v1/values?glob=" + "*[a-" * 500), 400, "glob")
    limited(daemon.post("/v1/tokenize", {"text": " " * 4000000}), 413, "text")
    limited(daemon.post("/v1/generate", {"prompt": " " * 4000000}), 413, "prompt")
    limited(daemon.post("/v1/detokenize", {"tokens": [1] * 900000}), 413, "tokens")
    limited(daemon.post("/v1/logits", {"tokens": [1] * 900000}), 400, "tokens")
    assert daemon.post("/v1/trace", {"tokens": TOKENS, "values": [], "chunks": [1] * 900000}).error[:2] == (400, "chunks")
    # the most that is allowed of some
    assert daemon.get("/v1/values?glob=" + "*[a-" * 64).status == 200
    assert daemon.post("/v1/trace", {"tokens": [1], "values": ["*[a-" * 63 + "*"] * 1024}).status == 400
    assert daemon.post("/v1/tokenize", {"text": " " * (1 << 20)}).status == 200


def test_health_while_requests_are_parsed(start):
    """The most expensive that the limits let through, as many as there are threads and more."""
    d = start()
    body = json.dumps({"text": "a " * (1 << 19)}).encode()
    raw = b"POST /v1/tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    busy = [d.socket() for _ in range(12)]
    for s in busy:
        s.sendall(raw)
    for _ in range(20):
        assert d.get("/health").status == 200
    for s in busy:
        s.close()
    assert d.alive()
