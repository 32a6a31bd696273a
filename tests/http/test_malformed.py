"""Requests that are wrong in every way a table can spell: each gets an error of its own, and the
daemon goes on."""
import itertools
import json
import random
import socket

import pytest
from conftest import BINARY, JSON, TOKENS

GOOD = {
    "/v1/trace": {"tokens": TOKENS, "values": ["logits"], "steps": 1, "positions": "last", "replace": {},
                  "format": "json", "special": True, "numerics": "torch-cpu/avx512_bf16", "attention": "eager",
                  "padding": 2, "batch": 2, "chunks": [8]},
    "/v1/logits": {"tokens": TOKENS, "positions": "all", "top_k": 3, "special": True, "attention": "sdpa", "padding": 1,
                   "chunks": [8]},
    "/v1/generate": {"tokens": TOKENS, "max_tokens": 2, "stop_at_eos": True, "stream": False, "attention": "eager"},
    "/v1/tokenize": {"text": "abc", "special": True},
    "/v1/detokenize": {"tokens": TOKENS, "skip_special": True},
}
KIND = {"tokens": list, "values": list, "steps": int, "positions": "positions", "replace": dict, "format": str,
        "special": bool, "numerics": str, "attention": str, "top_k": int, "max_tokens": int, "stop_at_eos": bool,
        "padding": int, "batch": int, "chunks": list, "stream": bool, "text": str, "skip_special": bool, "prompt": str}
ODD = [True, False, 0, -1, 1.5, 10**18, -10**18, 1e300, "", "x", "all", "\u0000", "\U0001f600" * 50, [], [[]], [0, "a"],
       [None], [1.5], [{}], [10**18], [-1], ["", "x"], {}, {"a": 1}, {"": []}, {"lm_head": [[1]]}, {"x": {"y": []}}]


def check(daemon, reply, what):
    assert 400 <= reply.status < 500, (what, reply.status, reply.body[:300])
    status, param, message = reply.error
    assert param, (what, message)
    assert "\n" not in message and len(message) < 600
    return param


def fits(field, value):
    """Whether a value is of the field's kind, so that another field or a later check decides."""
    kind = KIND[field]
    if kind == "positions":
        return value in ("all", "last") or isinstance(value, list)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


@pytest.mark.parametrize("path", GOOD)
def test_good_ones_are_good(daemon, path):
    assert daemon.post(path, GOOD[path]).status == 200


@pytest.mark.parametrize("path", GOOD)
def test_values_of_the_wrong_kind(daemon, path):
    """Every field with every odd value: the error names the field."""
    count = 0
    for field, value in itertools.product(GOOD[path], ODD):
        reply = daemon.post(path, GOOD[path] | {field: value})
        if fits(field, value):
            if reply.status == 200:
                continue
            check(daemon, reply, (field, value))
        else:
            param = check(daemon, reply, (field, value))
            assert param.split("[")[0].split(".")[0] == field, (field, value, param)
        count += 1
    assert count > 30
    assert daemon.alive()


@pytest.mark.parametrize("path", GOOD)
def test_fields_that_do_not_exist(daemon, path):
    for name in ("x", "Tokens", "token", "max_token", "__proto__", "\u00fc", "a" * 5000, "values ", ""):
        reply = daemon.post(path, GOOD[path] | {name: 1})
        param = check(daemon, reply, name)
        assert name.startswith(param) or param == "body"


TEXTS = [b"", b" ", b"null", b"true", b"5", b'"text"', b"[]", b"[{}]", b"{", b"}", b"{]", b'{"a"}', b'{"a":}', b"{,}",
         b'{"a":1,}', b"{'a':1}", b'{"a":1}{"b":2}', b'{"tokens":[1],"tokens":[2]}', b'{"a":01}', b'{"a":+1}', b'{"a":.5}',
         b'{"a":1.}', b'{"a":1e}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e999}', b'{"a":99999999999999999999}',
         b'{"a":"\xff"}', b'{"a":"\xc0\x80"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}', b'{"a":"\\udc00\\ud800"}',
         b'{"a":"\\x41"}', b'{"a":"\\u00"}', b'{"a":"\n"}', b'{"a\x00b":1}', b'{"a\\u0000b":1}', b"\xef\xbb\xbf{}",
         b"\xff\xfe{\x00}\x00", b"[" * 100000, b'{"a":' * 3000, b'{"tokens":' + b"[" * 3000, b"\x00" * 100, b"\xff" * 100,
         b"<xml/>", b"tokens=1&values=2", b"--x\r\nContent-Disposition: form-data\r\n\r\n"]


@pytest.mark.parametrize("path", GOOD)
def test_bodies_that_are_no_json_objects(daemon, path):
    for text in TEXTS:
        check(daemon, daemon.post(path, text, Content_Type=JSON), text[:50])
    assert daemon.alive()


def test_mutated_bodies(daemon):
    """A good body with bytes changed, cut out, doubled.  Some stay good."""
    dice, errors = random.Random(1), 0
    for i in range(1500):
        path = dice.choice(list(GOOD))
        body = bytearray(json.dumps(GOOD[path]).encode())
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(body))
            how = dice.randrange(4)
            if how == 0:
                body[at] = dice.randrange(256)
            elif how == 1:
                del body[at:at + dice.randint(1, 20)]
            elif how == 2:
                body[at:at] = body[at:at + dice.randint(1, 20)]
            else:
                body[at] ^= 1 << dice.randrange(8)
            body = body or bytearray(b"{")
        reply = daemon.post(path, bytes(body), Content_Type=JSON)
        if reply.status != 200:
            check(daemon, reply, (i, bytes(body)))
            errors += 1
    assert errors > 1000
    assert daemon.alive()


def test_mutated_safetensors(daemon):
    """Every byte of header and length is hit."""
    dice, errors = random.Random(2), 0
    request = json.dumps({"tokens": [1], "values": ["lm_head"], "format": "digest"})
    header = json.dumps({"__metadata__": {"request": request},
                         "model.layers.0": {"dtype": "BF16", "shape": [1, 64], "data_offsets": [0, 128]},
                         "model.layers.1.mlp.down_proj": {"dtype": "F32", "shape": [1, 64],
                                                          "data_offsets": [128, 384]}}).encode()
    good = len(header).to_bytes(8, "little") + header + bytes(range(128)) * 3
    assert daemon.post("/v1/trace", good, Content_Type=BINARY).status == 200
    for at in range(8 + len(header)):
        body = bytearray(good)
        body[at] = dice.choice(b'0123456789"{}[],:x\x00\xff')
        if dice.random() < 0.1:
            body = body[:at]
        reply = daemon.post("/v1/trace", bytes(body), Content_Type=BINARY)
        if reply.status != 200:
            check(daemon, reply, bytes(body))
            errors += 1
    assert errors > 200
    assert daemon.alive()


def raw(daemon, data):
    """Status and body of what comes back, however broken the request; the daemon may also just close."""
    s = daemon.socket(timeout=2)
    got = b""
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while part := s.recv(65536):
            got += part
    except OSError:  # closed, reset, or no more to come
        pass
    s.close()
    head, _, body = got.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head.startswith(b"HTTP/1.") else None), body


BODY = b'{"tokens":[1],"values":[]}'
HEADS = [b"", b"\r\n\r\n", b"GET\r\n\r\n", b"GET /health\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n", b"GET /health HTTP/1.1\r\n",
         b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 200, b"\xff" * 200, b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n",
         b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n", b"GET /health HTTP/1.1\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
         b"GET /health HTTP/1.1\r\nnocolon\r\n\r\n", b"GET /health HTTP/1.1\r\n: empty\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" + BODY,
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n" + BODY,
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n" + BODY,
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\nContent-Length: 5\r\n\r\n" + BODY,
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n" + BODY,
         b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + BODY]


def test_heads_that_are_no_http(daemon):
    """Refused in JSON, once, or the connection is closed where there is nobody to tell."""
    for head in HEADS:
        status, body = raw(daemon, head)
        assert status is None or status in (200, 501, 505) or 400 <= status < 500, (head[:80], status)
        if status not in (None, 200):
            assert json.loads(body)["error"]["code"] == status, head[:80]
        assert daemon.alive(), head[:80]


def test_urls(daemon):
    dice = random.Random(3)
    odd = ["/%", "/%zz", "/%00", "/v1/values%00", "/v1/values?%", "/v1/values?layer=%zz", "/v1/values?=", "/v1/values?&&&",
           "/v1/values?glob=%ff", "/v1/values?glob=%00", "/v1/values?layer=1%00", "/v1/../health", "/v1/values/../model",
           "/v1/values?" + "a" * 5000, "/" + "%41" * 2000, "*", "http://x/v1/none", "/v1/trace/" * 50]
    odd += ["/" + "".join(chr(dice.randrange(33, 127)) for _ in range(dice.randint(1, 60))) for _ in range(200)]
    for url in odd:
        s = daemon.socket()
        s.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while part := s.recv(65536):
            got += part
        s.close()
        status = int(got.split()[1])
        body = json.loads(got.split(b"\r\n\r\n", 1)[1])
        assert status == 200 and "%00" in url or status == 200 and "values" in url or 400 <= status < 500, (url, status)
        if status != 200:
            assert body["error"]["message"] and body["error"]["param"], url


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencode", "application", "json",
                                          "application/json5", "application/jsonx; charset=utf-8", "\u00ff", "/", ";"])
def test_content_types(daemon, content_type):
    for path, body in GOOD.items():
        reply = daemon.post(path, json.dumps(body).encode(), Content_Type=content_type.encode("latin-1"))
        assert check(daemon, reply, path) == "Content-Type" and reply.status == 415


def test_content_type_with_parameters(daemon):
    body = json.dumps(GOOD["/v1/tokenize"]).encode()
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/json;charset=utf-8",
                 "application/x-www-form-urlencoded"):
        assert daemon.post("/v1/tokenize", body, Content_Type=kind).status == 200


def test_accept_headers(daemon):
    dice, errors = random.Random(4), 0
    parts = ["application/json", "*/*", "text/html", ";q=0", ";q=1", ";q=2", ";q=", ";q=x", ",", ",,", " ", ";", "/", "json",
             "application/*", "q=0.5", ";q=0.5", "*", "\t", ";q=0.0001", ";level=1", '"', "\u00ff"]
    for _ in range(400):
        accept = "".join(dice.choice(parts) for _ in range(dice.randint(1, 6)))
        reply = daemon.request("POST", "/v1/trace", GOOD["/v1/trace"] | {"format": "json"},
                               {"Accept": accept.encode("latin-1")})
        if reply.status != 200:
            assert check(daemon, reply, accept) in ("Accept", "format")
            errors += 1
    assert errors > 100


@pytest.mark.parametrize("field, value, param", [
    ("values", ["logitz"], "values[0]"), ("values", ["logits", "nothing.*"], "values[1]"),
    ("values", ["step_2/logits"], "values[0]"), ("values", ["step_x/logits"], "values[0]"), ("values", "logits", "values"),
    ("positions", [8], "positions[0]"), ("positions", [1, 1], "positions[1]"), ("positions", [2, 1], "positions[1]"),
    ("positions", [], "positions"), ("positions", [-1], "positions[0]"), ("positions", "first", "positions"),
    ("tokens", [1, 2, 3, 1024], "tokens[3]"), ("tokens", [], "tokens"), ("tokens", [-1], "tokens[0]"),
    ("replace", {"logitz": [[1]]}, "replace.logitz"), ("replace", {"logits": [[1]]}, "replace.logits"),
    ("replace", {"step_2/logits": [[1.0] * 1024]}, "replace.step_2/logits"),
    ("replace", {"model.*": [[1]]}, "replace.model.*"), ("prompt", "both", "tokens"),
    ("numerics", "torch-cpu/avx2", "numerics"), ("attention", "flash", "attention"), ("attention", "", "attention"),
    ("steps", 10**6, "steps"), ("padding", 8, "padding"), ("padding", -1, "padding"),
    ("batch", 0, "batch"), ("batch", 2**20 + 1, "batch"), ("chunks", [], "chunks"),
    ("chunks", [5, 4], "chunks[1]"), ("chunks", [5, 2], "chunks"), ("chunks", [8, 0], "chunks[1]"),
    ("chunks", [5, -5, 8], "chunks[1]"), ("values", ["chunk_1/logits"], "values[0]"),
])
def test_meanings(daemon, field, value, param):
    reply = daemon.post("/v1/trace", GOOD["/v1/trace"] | {field: value})
    assert check(daemon, reply, value) == param


@pytest.mark.parametrize("field, value, param", [
    ("values", ["chunk_3/logits"], "values[0]"), ("values", ["chunk_x/logits"], "values[0]"), ("positions", [1], "positions"),
    ("replace", {"model.embed_tokens": [[1.0] * 64] * 8}, "replace.model.embed_tokens"),
    ("replace", {"chunk_1/model.embed_tokens": [[1.0] * 64] * 8}, "replace.chunk_1/model.embed_tokens"),
    ("replace", {"chunk_3/model.embed_tokens": [[1.0] * 64] * 5}, "replace.chunk_3/model.embed_tokens"),
])
def test_meanings_in_chunks(daemon, field, value, param):
    body = GOOD["/v1/trace"] | {"chunks": [5, 3]}
    assert daemon.post("/v1/trace", body).status == 200
    assert check(daemon, daemon.post("/v1/trace", body | {field: value}), value) == param
