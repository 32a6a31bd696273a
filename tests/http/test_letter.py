"""HTTP to the letter: what a request's bytes mean is beyond doubt, or it is a 400 with the JSON error.

cases/*.http are whole requests as some client sent them."""
import gzip
import json
import os
import socket
import zlib

import pytest
from conftest import HELD, JSON

HERE = os.path.dirname(os.path.abspath(__file__))
BODY = b'{"text":"Hello"}'
HEAD = b"POST /v1/tokenize HTTP/1.1\r\nHost: localhost\r\n"


def ask(daemon, data, times=1):
    """(status, headers, body) of each reply that comes before the connection's end."""
    s = daemon.socket(timeout=10)
    s.sendall(data)
    if times > 1:
        s.shutdown(socket.SHUT_WR)
    got = b""
    while part := s.recv(65536):
        got += part
    s.close()
    replies = []
    while got:
        head, _, rest = got.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        size = int(fields["Content-Length"])
        replies.append((int(head.split()[1]), fields, rest[:size]))
        got = rest[size:]
    return replies


def only(daemon, data):
    replies = ask(daemon, data)
    assert len(replies) == 1, replies
    return replies[0]


def case(name):
    with open(os.path.join(HERE, "cases", name + ".http"), "rb") as f:
        return f.read()


@pytest.mark.parametrize("name", ["http_absolute_target", "http_bom_body", "http_gzip_body", "http_no_content_type"])
def test_cases_that_are_right(daemon, name):
    status, _, body = only(daemon, case(name))
    assert status == 200 and json.loads(body)["tokens"] == daemon.post("/v1/tokenize", {"text": "Hello"}).json["tokens"]


@pytest.mark.parametrize("name", ["http_bad_content_length", "http_two_content_lengths"])
def test_cases_that_are_wrong(daemon, name):
    status, fields, body = only(daemon, case(name))
    assert status == 400 and fields["Content-Type"] == JSON and json.loads(body)["error"]["param"] == "Content-Length"


@pytest.mark.parametrize("fields, body, status, param", [
    (b"Content-Length: +16\r\n", BODY, 400, "Content-Length"), (b"Content-Length: 0x10\r\n", BODY, 400, "Content-Length"),
    (b"Content-Length: 16, 16\r\n", BODY, 400, "Content-Length"), (b"Content-Length:\r\n", BODY, 400, "Content-Length"),
    (b"Content-Length: 1 6\r\n", BODY, 400, "Content-Length"), (b"Content-Length:  16 \r\n", BODY, 400, "Content-Length"),
    (b"Content-Length: 16\t\r\n", BODY, 400, "Content-Length"), (b"Transfer-Encoding: chunked \r\n", BODY, 400, "Transfer-Encoding"), (b"content-length: 16\r\nCONTENT-LENGTH: 15\r\n", BODY, 400, "Content-Length"),
    (b"Content-Length: 9999999999999999999999\r\n", BODY, 413, "Content-Length"),
    (b"Content-Length: 16\r\nTransfer-Encoding: chunked\r\n", BODY, 400, "Content-Length"),
    (b"Transfer-Encoding: gzip\r\n", BODY, 501, "Transfer-Encoding"),
    (b"Transfer-Encoding: gzip, chunked\r\n", BODY, 501, "Transfer-Encoding"),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BODY, 400, "Transfer-Encoding"),
    (b"Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n", 400, "body"),
    (b"Transfer-Encoding: chunked\r\n", b"-2\r\n{}\r\n0\r\n\r\n", 400, "body"),
    (b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n{}", 400, "body"),
    (b"Transfer-Encoding: chunked\r\n", b"2\r\n{}x\r\n0\r\n\r\n", 400, "body"),
    (b"Transfer-Encoding: chunked\r\n", b"\r\n{}\r\n0\r\n\r\n", 400, "body"),
    (b"Host: other\r\n", BODY, 400, "Host"), (b" folded\r\n", BODY, 400, "head"), (b"no colon\r\n", BODY, 400, "head"),
    (b"Space : x\r\n", BODY, 400, "head"), (b"Nul: a\0b\r\n", BODY, 400, "head"), (b"Cr: a\rb\r\n", BODY, 400, "head"),
    (b"X: y\r\n" * 101, BODY, 431, "head"), (b"X: " + b"y" * 40000 + b"\r\n", BODY, 431, "head"),
    (b"Content-Length: 16\r\nContent-Encoding: br\r\n", BODY, 415, "Content-Encoding"),
    (b"Content-Length: 16\r\nContent-Encoding: gzip\r\n", BODY, 400, "body"),
])
def test_wrong_ones(daemon, fields, body, status, param):
    found, headers, text = only(daemon, HEAD + b"Connection: close\r\n" + fields + b"\r\n" + body)
    error = json.loads(text)["error"]
    assert (found, error["param"]) == (status, param) and headers["Content-Type"] == JSON, (fields, text)
    assert daemon.alive()


@pytest.mark.parametrize("line, status", [
    (b"GET /health HTTP/2.0", 505), (b"GET  /health HTTP/1.1", 400), (b"GET /health", 400), (b"GET /he alth HTTP/1.1", 400),
    (b"G\xc3\xa4T /health HTTP/1.1", 400), (b"GET /health HTTP/1.1 ", 400), (b"GET /" + b"a" * 9000 + b" HTTP/1.1", 414),
    (b"GET /health%00x HTTP/1.1", 404), (b"GET /health%00 HTTP/1.1", 404), (b"GET /v1/model%2f HTTP/1.1", 404),
    (b"GET /v1/values?" + b"&".join(b"a=%d" % i for i in range(8000)) + b" HTTP/1.1", 414),
    (b"GET /v1/values?" + b"&" * 7000 + b" HTTP/1.1", 400), (b"GET http://a.example HTTP/1.1", 404),
    (b"GET HTTPS://x/health HTTP/1.1", 200), (b"GET http://x/health?x=1 HTTP/1.1", 400), (b"\r\nGET /health HTTP/1.1", 200)])
def test_first_lines(daemon, line, status):
    found, _, body = only(daemon, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert found == status, body
    assert status == 200 or json.loads(body)["error"]["code"] == status


def test_no_host(daemon):
    assert only(daemon, b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 400
    assert only(daemon, b"GET /health HTTP/1.0\r\n\r\n")[0] == 200


def test_on_a_kept_connection(daemon):
    """The second request of a connection is looked at as the first is."""
    good = HEAD + b"Content-Length: 16\r\n\r\n" + BODY
    for fields, param in ((b"Content-Length: 16\r\nContent-Length: 15\r\n", "Content-Length"), (b"Host: other\r\nContent-Length: 16\r\n", "Host"),
                          (b"Content-Length: 16\r\nTransfer-Encoding: chunked\r\n", "Content-Length")):
        replies = ask(daemon, good + HEAD + fields + b"\r\n" + BODY, times=2)
        assert [r[0] for r in replies[:2]] == [200, 400], replies
        assert json.loads(replies[1][2])["error"]["param"] == param


def test_chunks_that_are_right(daemon):
    for body in (b"10\r\n" + BODY + b"\r\n0\r\n\r\n", b"3;x=y\r\n" + BODY[:3] + b"\r\nD\r\n" + BODY[3:] + b"\r\n0\r\nTrailer: x\r\n\r\n"):
        assert only(daemon, HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)[0] == 200


@pytest.mark.parametrize("encoding, pack", [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress),
                                            ("identity", bytes), ("GZIP", lambda b: gzip.compress(b[:5]) + gzip.compress(b[5:]))])
def test_encoded_bodies(daemon, encoding, pack):
    reply = daemon.request("POST", "/v1/tokenize", pack(BODY), {"Content-Type": JSON, "Content-Encoding": encoding})
    assert reply.status == 200 and reply.json["tokens"]


def test_an_encoded_body_is_bounded(start):
    d = start({"body_bytes": 1 << 20}, environment=HELD)
    before = d.rss()
    bomb = gzip.compress(b" " * (128 << 20), 6)
    assert len(bomb) < 1 << 20
    for _ in range(4):
        assert d.request("POST", "/v1/tokenize", bomb, {"Content-Encoding": "gzip"}).error[:2] == (413, "body")
    assert d.rss() - before < 32 * 1024
    cut = gzip.compress(BODY)[:-9]
    assert d.request("POST", "/v1/tokenize", cut, {"Content-Encoding": "gzip"}).error[:2] == (400, "body")


def test_a_browser_page_cannot_ask(daemon):
    """Another site as Origin, or a Host that may be anybody's name for this machine."""
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "evil.example:8642"},
                    {"Host": "evil.example", "Origin": "http://evil.example"}):
        reply = daemon.request("POST", "/v1/tokenize", BODY, {"Content-Type": JSON, **headers})
        assert reply.error[0] == 403 and reply.error[1] in headers, headers
        assert "Access-Control-Allow-Origin" not in reply.headers
    for host in ("localhost:8642", "127.0.0.1", "[::1]:8642", "machine", "a.localhost"):
        assert daemon.get("/v1/model", Host=host).status == 200, host
    own = f"127.0.0.1:{daemon.port}"
    assert daemon.request("POST", "/v1/tokenize", BODY, {"Host": own, "Origin": f"http://{own}"}).status == 200


def test_an_allowed_page(start):
    d = start({"origins": ["https://lab.example"], "hosts": ["box.lab.example"]})
    reply = d.get("/v1/model", Origin="https://lab.example", Host="box.lab.example:8642")
    assert reply.status == 200 and reply.headers["Access-Control-Allow-Origin"] == "https://lab.example"
    reply = d.request("OPTIONS", "/v1/logits", None, {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"})
    assert reply.status == 204 and "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in reply.headers["Access-Control-Allow-Headers"]
    reply = d.request("OPTIONS", "/v1/logits", None, {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"})
    assert reply.status == 403 and "Access-Control-Allow-Origin" not in reply.headers
    assert d.get("/v1/model", Origin="https://lab.example.evil.example").error[:2] == (403, "Origin")
