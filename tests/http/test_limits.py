"""Every limit has an error of its own."""
import json
import socket
import time

import pytest
from conftest import BINARY, HELD, JSON, PATIENCE, Daemon, long_run, post_bytes, wait_for

LIMITS = {"tokens": 20, "steps": 5, "values": 100, "top_k": 3, "body_bytes": 4000, "json_bytes": 2000}


@pytest.fixture(scope="module")
def small(model):
    d = Daemon(model, LIMITS, environment=HELD)
    yield d
    d.stop()


@pytest.mark.parametrize("path, body, status, param", [
    ("/v1/trace", {"tokens": [1] * 21, "values": []}, 400, "tokens"),
    ("/v1/trace", {"prompt": "a b c d e f g h i j k l m n o p q r s t u v w", "values": []}, 400, "prompt"),
    ("/v1/trace", {"tokens": [1] * 18, "values": [], "steps": 5}, 400, "steps"),
    ("/v1/trace", {"tokens": [1], "values": [], "steps": 6}, 400, "steps"),
    ("/v1/trace", {"tokens": [1], "values": ["*"], "steps": 5}, 400, "values"),
    ("/v1/generate", {"tokens": [1], "max_tokens": 7}, 400, "max_tokens"),
    ("/v1/logits", {"tokens": [1], "top_k": 4}, 400, "top_k"),
    ("/v1/trace", {"tokens": [1], "values": ["x" * 2000]}, 413, "body"),
    ("/v1/tokenize", {"text": "x" * 2000}, 413, "body"),
    ("/v1/tokenize", {"text": "x" * 5000}, 413, "body"),
])
def test_limits(small, path, body, status, param):
    found, where, message = small.post(path, body).error
    assert (found, where) == (status, param), message


def test_just_within(small):
    assert small.post("/v1/trace", {"tokens": [1] * 15, "values": ["logits"], "steps": 5}).status == 200
    assert small.post("/v1/generate", {"tokens": [1], "max_tokens": 6}).status == 200
    assert small.post("/v1/logits", {"tokens": [1], "top_k": 3}).status == 200


def test_memory(start):
    d = start({"memory_bytes": 200000})
    assert d.post("/v1/trace", {"tokens": [1], "values": []}).status == 200
    assert d.post("/v1/trace", {"tokens": [1] * 1000, "values": []}).error[0] == 413
    assert d.post("/v1/logits", {"tokens": [1] * 1000}).error[0] == 413


def test_the_models_positions_are_no_limit(daemon):
    """transformers computes longer texts too."""
    reply = daemon.post("/v1/trace", {"tokens": [1] * 2040, "values": [], "steps": 9})
    assert reply.status == 200 and "max_position_embeddings of 2048" in reply.json["notice"]


def status_of(s):
    got = b""
    while b"\r\n\r\n" not in got:
        part = s.recv(65536)
        if not part:
            return None, got
        got += part
    return int(got.split()[1]), got


def test_a_body_that_is_declared_too_large(small):
    s = small.socket()
    s.sendall(f"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {10**12}\r\n\r\n".encode())
    assert status_of(s)[0] == 413
    s.close()


def test_expecting_to_be_told(small):
    """Told 413 instead of 100, before any of the body was sent; and 100 when it fits."""
    s = small.socket()
    head = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n"
    s.sendall(head.format("/v1/trace", 5000).encode())
    assert status_of(s)[0] == 413
    s.close()
    s = small.socket()
    s.sendall(head.format("/nowhere", 50).encode())
    assert status_of(s)[0] == 404
    s.close()
    s = small.socket()
    body = json.dumps({"text": "a"}).encode()
    s.sendall(head.format("/v1/tokenize", len(body)).encode())
    assert status_of(s)[0] == 100
    s.sendall(body)
    assert status_of(s)[0] == 200
    s.close()


def test_a_chunked_body_that_grows_too_large(small):
    s = small.socket()
    s.sendall(f"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b"3e8\r\n" + b" " * 1000 + b"\r\n"
    s.sendall(chunk * 50 + b"0\r\n\r\n")
    assert status_of(s)[0] == 413
    # the connection goes on
    s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(s)[0] == 200
    s.close()
    reply = small.request("POST", "/v1/tokenize", iter([b'{"text"', b':"abc"}']), {"Content-Type": JSON})
    assert reply.status == 200


def test_a_body_without_end(small):
    """Chunks for ever: cut off, the memory flat."""
    before, s = small.rss(), small.socket(timeout=30)
    s.sendall(f"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with pytest.raises((ConnectionError, socket.timeout)):
        for _ in range(4000):
            s.sendall(chunk)
    assert small.rss() - before < 32 * 1024
    s.close()
    assert small.alive()


def test_the_rest_of_a_large_body_is_read_before_the_answer(small):
    """A client that sends first and reads then gets the answer, not a broken pipe."""
    reply = small.request("POST", "/v1/trace", b" " * (8 << 20), {"Content-Type": JSON})
    assert reply.error[:2] == (413, "body")


def test_a_safetensors_header_is_json_too(small):
    header = b" " * 2400
    body = len(header).to_bytes(8, "little") + header
    assert small.post("/v1/trace", body, Content_Type=BINARY).error[:2] == (413, "body")


def test_connections(start):
    d = start({"connections": 4})
    wait_for(lambda: d.get("/health").status == 200)
    taken = [d.socket() for _ in range(4)]
    for s in taken:  # a body too long to be waited for at the door
        s.sendall(b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b" " * 50000)
    time.sleep(0.2)
    reply = d.get("/v1/model")
    assert reply.error[0] == 503 and reply.headers["Retry-After"] and "connections" in reply.error[2]
    assert d.get("/health").status == 200
    for s in taken:
        s.close()
    wait_for(lambda: d.get("/v1/model").status == 200)


@pytest.mark.parametrize("start_with, drip", [
    (b"", b"POST /v1/trace HTTP/1.1\r\nX-Slow: " + b"a" * 1000),
    (b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n", b" " * 900),
    (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health HTTP/1.1\r\nX-Slow: " + b"a" * 1000),
])
def test_a_client_that_drips(start, start_with, drip):
    """Byte by byte it is never idle, and is cut all the same; others are served meanwhile."""
    d = start({"receive_seconds": 1, "idle_seconds": 1})
    s = d.socket(timeout=10)
    s.sendall(start_with)
    s.setblocking(False)
    began, cut, got = time.monotonic(), None, b""
    for byte in drip:
        try:
            s.send(bytes([byte]))
            part = s.recv(65536)
            got += part
            if not part:
                cut = time.monotonic() - began
                break
        except BlockingIOError:
            pass
        except ConnectionError:
            cut = time.monotonic() - began
            break
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.02)
    assert cut is not None and cut > 0.5
    assert d.alive()
    s.close()


def test_an_idle_connection_is_closed(start):
    d = start({"idle_seconds": 1})
    s = d.socket(timeout=PATIENCE)
    s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(s)[0] == 200
    began = time.monotonic()
    assert s.recv(1000) == b"" and time.monotonic() - began > 0.3
    s.close()


def test_a_finished_reply_that_nobody_reads_is_cut(start):
    """Everything is in the socket's buffers or the ring; the worker is free, and the connection ends."""
    d = start({"seconds": 1, "connections": 1})
    s = d.socket(receive_buffer=1 << 12)
    s.sendall(post_bytes("/v1/trace", long_run(steps=0)))
    wait_for(lambda: d.get("/health").status == 200)
    s.close()
