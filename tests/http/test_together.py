"""Requests that share their passes over the weights: each has what it would have alone."""
import json
import socket
import threading
import time

from conftest import BINARY, HELD, JSON, PLAIN, TOKENS, post_bytes, settle, wait_for

GENERATE = "/v1/generate"
TWO = ("--threads", "2")


def mixed(i):
    """(path, body) of request i: of all kinds that join others."""
    tokens = [(k * 37 + i * 11 + 3) % 1000 for k in range(1 + i * 13 % 90)]
    common = {"tokens": tokens, "attention": "eager" if i % 5 == 0 else "sdpa"}
    kind = i % 4
    if kind == 0:
        return "/v1/trace", {**common, "values": ["logits"], "format": "digest", "steps": i % 9}
    if kind == 1:
        return GENERATE, {**common, "max_tokens": 1 + i % 12, "stop_at_eos": False}
    if kind == 2:
        return "/v1/logits", {**common, "top_k": 5}
    return "/v1/trace", {**common, "values": ["layer_1.final", "logits"], "positions": "last", "steps": i % 5}


def answers(daemon, count, at_once):
    found, lock = [None] * count, threading.Lock()
    todo = iter(range(count))

    def ask():
        while True:
            with lock:
                i = next(todo, None)
            if i is None:
                return
            reply = daemon.post(*mixed(i))
            found[i] = (reply.status, reply.body)

    threads = [threading.Thread(target=ask) for _ in range(at_once)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(status == 200 for status, _ in found)
    return found


def test_64_at_once_are_as_alone(start):
    d = start({"reuse_bytes": 0, "connections": 80}, *TWO)
    alone = answers(d, 64, 1)
    assert answers(d, 64, 64) == alone
    assert answers(start({"together": 0}, *TWO), 64, 16) == alone  # each on a thread of its own
    assert answers(start({"together": 3}, *TWO), 64, 16) == alone


def test_what_was_computed_before_changes_no_bit(start):
    want = answers(start({"reuse_bytes": 0}), 24, 1)
    d = start()
    for at_once in (1, 1, 12):
        assert answers(d, 24, at_once) == want


def test_equal_requests_do_not_grow_the_memory(start):
    d = start({"reuse_bytes": 1 << 20}, environment=HELD)
    bodies = [json.dumps(mixed(i)[1]).encode() for i in range(0, 24, 4)]
    connection = d.connect()

    def ask(times):
        digests = set()
        for k in range(times):
            connection.request("POST", "/v1/trace", bodies[k % len(bodies)], {"Content-Type": JSON})
            digests.add(connection.getresponse().read())
        return digests

    first = ask(300)
    before = d.rss()
    assert ask(1500) == first and len(first) == len(bodies)
    assert d.rss() - before < 4 << 10


def test_a_stalled_reader_holds_nobody_up_and_no_memory(start):
    d, slack = start({"together": 2, "reuse_bytes": 0}, environment=HELD), 48 << 20
    body = json.dumps({"tokens": TOKENS, "values": ["*"], "steps": 1000}).encode()
    assert len(d.request("POST", "/v1/trace", body, {"Content-Type": JSON}).body) > 2 * slack  # and all is warm
    before = d.rss()
    stalled = d.socket(receive_buffer=1 << 12)
    stalled.sendall(post_bytes("/v1/trace", body, JSON))
    assert stalled.recv(1 << 10).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    while time.monotonic() - began < 2:
        assert d.post(GENERATE, {"tokens": TOKENS, "max_tokens": 3}).status == 200
    assert (d.rss() - before) * 1024 < slack
    stalled.close()
    assert d.alive()


def test_a_stalled_reader_of_binary_values_holds_nobody_up(start):
    d = start({"together": 2})
    stalled = d.socket(receive_buffer=1 << 12)
    body = json.dumps({"tokens": TOKENS, "values": ["*"], "steps": 2000}).encode()
    stalled.sendall(post_bytes("/v1/trace", body, BINARY))
    assert stalled.recv(1 << 10).startswith(b"HTTP/1.1 200")
    for _ in range(20):
        assert d.post(GENERATE, {"tokens": TOKENS, "max_tokens": 3}).status == 200
    stalled.close()
    assert d.alive()


def test_a_slow_reader_gets_the_same_bytes(start):
    """Headers and values of more bytes than a stream holds."""
    body = json.dumps({"tokens": TOKENS, "values": ["*"], "steps": 400}).encode()
    alone, shares = start({"together": 0}), start()
    for accept in (BINARY, JSON):
        headers = {"Content-Type": JSON, "Accept": accept}
        want = alone.request("POST", "/v1/trace", body, headers).body
        assert len(want) > 6 << 20
        assert shares.request("POST", "/v1/trace", body, headers).body == want
        connection = shares.connect()
        connection.request("POST", "/v1/trace", body, headers)
        reply, got = connection.getresponse(), []
        while part := reply.read(1 << 20):
            got.append(part)
            time.sleep(0.02)
        connection.close()
        assert b"".join(got) == want


def test_a_refusal_says_when_to_come_back(start):
    d = start({"together": 1, "waiting": 0}, *PLAIN)
    running = d.socket()
    running.sendall(post_bytes(GENERATE, json.dumps({"tokens": TOKENS, "max_tokens": 2000, "stop_at_eos": False}).encode(), JSON))
    settle(d)
    reply = d.post(GENERATE, {"tokens": TOKENS})
    assert reply.error[0] == 503 and int(reply.headers["Retry-After"]) >= 1
    running.close()
    wait_for(lambda: d.post(GENERATE, {"tokens": TOKENS, "max_tokens": 1}).status == 200)


def test_the_next_request_of_a_client_finds_its_place_free(start):
    d = start({"together": 1, "waiting": 0})
    for accept in (BINARY, JSON):
        for _ in range(200):
            assert d.request("POST", "/v1/trace", {"tokens": TOKENS, "values": ["logits"]}, {"Accept": accept}).status == 200
    for _ in range(200):
        assert d.post(GENERATE, {"tokens": TOKENS, "max_tokens": 2}).status == 200


def test_one_who_leaves_ends_only_his_own(start):
    d = start()
    long = {"tokens": TOKENS, "max_tokens": 2000, "stop_at_eos": False}
    leaving = [d.socket() for _ in range(4)]
    for s in leaving:
        s.sendall(post_bytes(GENERATE, json.dumps(long).encode(), JSON))
    stays = {"tokens": TOKENS, "max_tokens": 200, "stop_at_eos": False}
    found = []
    asking = threading.Thread(target=lambda: found.append(d.post(GENERATE, stays).json["tokens"]))
    asking.start()
    for s in leaving:
        s.shutdown(socket.SHUT_RDWR)
        s.close()
    asking.join()
    assert found == [start().post(GENERATE, stays).json["tokens"]]


def test_a_deadline_meets_those_who_share(start):
    d = start({"seconds": 1}, *PLAIN)
    reply = d.post(GENERATE, {"tokens": TOKENS, "max_tokens": 2000, "stop_at_eos": False})
    assert reply.error[0] == 504
    assert d.request("POST", GENERATE, {"tokens": TOKENS, "max_tokens": 2}, {"Accept": "*/*"}).status == 200


def test_stopping_ends_those_who_share(start):
    d = start({"together": 1, "stop_seconds": 0}, *PLAIN)
    long = json.dumps({"tokens": TOKENS, "max_tokens": 2000, "stop_at_eos": False}).encode()
    sockets = [d.socket() for _ in range(3)]
    for s in sockets:
        s.sendall(post_bytes(GENERATE, long, BINARY + ", " + JSON))
    settle(d)
    d.stop()
    for s in sockets:
        assert b" 503 " in s.recv(1 << 16)
        s.close()
