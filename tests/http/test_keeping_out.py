"""Who may ask: tokens, TLS, unix sockets, addresses that others can reach; and what the log does not say."""
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import stat
import subprocess

import pytest
from client_tools import SAMEBIT
from conftest import JSON, ROOT, SAMEBITD, Reply, wait_for

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"


def write(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def samebit(*arguments, **environment):
    return subprocess.run([SAMEBIT, *arguments], capture_output=True, text=True, timeout=60, check=False,
                          env=os.environ | environment)


@pytest.fixture
def tokens(tmp_path):
    return write(tmp_path / "tokens", f"# who may ask\nalice {ALICE}\n\n  bob\t{BOB}\n")


def test_tokens(start, tokens):
    d = start(None, "--token-file", tokens)
    assert d.get("/health").status == 200
    for header in ({}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong-0123456789abcdef"},
                   {"Authorization": f"Basic {ALICE}"}, {"Authorization": f"Bearer {ALICE}x"}, {"Authorization": f"Bearer {ALICE[:-1]}"},
                   {"Authorization": "Bearer alice"}, {"Authorization": ALICE}):
        for method, path, body in (("GET", "/v1/model", None), ("POST", "/v1/tokenize", b'{"text":"a"}'), ("GET", "/nowhere", None)):
            reply = d.request(method, path, body, header)
            assert reply.error[:2] == (401, "Authorization") and reply.headers["WWW-Authenticate"] == "Bearer", (header, path)
    for token in (ALICE, BOB):
        assert d.get("/v1/model", Authorization=f"Bearer {token}").status == 200
        assert d.request("POST", "/v1/tokenize", b'{"text":"a"}', {"Authorization": f"bearer {token}"}).status == 200
    # a page of the web does not have a token: names need not be looked at
    assert d.get("/v1/model", Authorization=f"Bearer {ALICE}", Host="box.example").status == 200


def test_the_clients_token(start, tokens, tmp_path):
    d = start(None, "--token-file", tokens)
    assert samebit("tokens", "a", "--url", d.url, SAMEBIT_TOKEN="").returncode == 2
    assert samebit("tokens", "a", "--url", d.url, SAMEBIT_TOKEN=ALICE).returncode == 0
    mine = write(tmp_path / "mine", BOB + "\n")
    assert samebit("tokens", "a", "--url", d.url, SAMEBIT_TOKEN_FILE=mine).returncode == 0
    missing = samebit("tokens", "a", "--url", d.url, SAMEBIT_TOKEN_FILE=mine + "x")
    assert missing.returncode == 2 and "SAMEBIT_TOKEN_FILE" in missing.stderr


def test_tokens_are_read_again(start, tokens, tmp_path):
    d = start(None, "--token-file", tokens)
    write(tmp_path / "tokens", f"bob {BOB}\ncarol carol-0123456789abcdef\n")
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: d.get("/v1/model", Authorization=f"Bearer {ALICE}").status == 401)
    assert d.get("/v1/model", Authorization=f"Bearer {BOB}").status == 200
    write(tmp_path / "tokens", "carol short\n")
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "what was read before stays" in d.said())
    assert d.get("/v1/model", Authorization=f"Bearer {BOB}").status == 200
    assert "carol-0123456789abcdef" not in d.said()


def test_settings_are_read_again(start):
    d = start({"tokens": 100, "hosts": ["one.example"], "connections": 64})
    asked = {"tokens": [1] * 20, "values": ["logits"], "format": "digest"}

    def change(limits, said):
        write(pathlib.Path(d.config.name), limits if isinstance(limits, str) else json.dumps(limits))
        before = d.said().count(said)
        d.process.send_signal(signal.SIGHUP)
        wait_for(lambda: d.said().count(said) > before)

    assert d.post("/v1/trace", asked).status == 200 and d.get("/v1/model", Host="one.example").status == 200
    change({"tokens": 10, "running": 1, "together": 2, "waiting": 200, "hosts": ["two.example"], "origins": ["http://a.example"]}, "were read again")
    assert d.post("/v1/trace", asked).error[:2] == (400, "tokens")
    assert d.get("/v1/model", Host="one.example").status == 403 and d.get("/v1/model", Host="two.example").status == 200
    assert d.get("/v1/model", Origin="http://a.example").status == 200
    limits = d.get("/v1/model").json["limits"]
    assert (limits["tokens"], limits["running"], limits["waiting"], limits["connections"]) == (10, 1, 200, 64)
    # what only a new start changes is said; the rest is taken
    change({"tokens": 50, "connections": 8, "reuse_bytes": 0, "address": "127.0.0.1:1"}, "address, connections, reuse_bytes: only a new start")
    assert d.post("/v1/trace", asked).status == 200 and d.get("/v1/model").json["limits"]["connections"] == 64
    # what has a fault changes nothing
    for text, said in (("{", "line 1"), ('{"tokens": 5, "nothing": 1}', "nothing"), ('{"tokens": -1}', "whole number")):
        change(text.replace("-1}", '"5"}'), said)
        assert any(said in line and line.endswith("(what was read before stays)") for line in d.said().splitlines())
        assert d.get("/v1/model").json["limits"]["tokens"] == 50


@pytest.mark.parametrize("text, mode, message", [
    ("alice\n", 0o600, "line 1: NAME TOKEN"), ("# none\n", 0o600, "no token"), ("a b c\n", 0o600, "line 1"),
    ("alice short\n", 0o600, "fewer than 16"), (f"alice {ALICE}\n", 0o644, "chmod 600"), (f"{'n' * 64} {ALICE}\n", 0o600, "longer"),
    ("alice " + "x" * 3000, 0o600, "too long")])
def test_files_of_tokens_that_are_wrong(model, tmp_path, text, mode, message):
    path = write(tmp_path / "tokens", text, mode)
    run = subprocess.run([SAMEBITD, "--model", model, "--listen", "127.0.0.1:0", "--token-file", path], cwd=ROOT,
                         capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1 and message in run.stderr and path in run.stderr
    assert ALICE not in run.stderr


def test_others_are_kept_out(model):
    for address in ("0.0.0.0:0", "[::]:0"):
        run = subprocess.run([SAMEBITD, "--model", model, "--listen", address], cwd=ROOT, capture_output=True, text=True,
                             timeout=60, check=False)
        assert run.returncode == 1 and "--token-file" in run.stderr and "--insecure" in run.stderr


@pytest.mark.parametrize("how", ["insecure", "tokens"])
def test_others_are_let_in(start, tokens, how):
    d = start(None, "--listen", "0.0.0.0:0", *(["--insecure"] if how == "insecure" else ["--token-file", tokens]))
    assert "without TLS" in d.said()
    header = {} if how == "insecure" else {"Authorization": f"Bearer {ALICE}"}
    assert d.get("/v1/model", Host="box.example", **header).status == 200


# ---- unix sockets ----


class Local(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


@pytest.mark.parametrize("mode", [None, "660"])
def test_a_unix_socket(start, tmp_path, mode):
    path = str(tmp_path / "s.sock")
    d = start(None, "--listen", f"unix:{path}" + (f",mode={mode}" if mode else ""))
    assert d.url == f"unix:{path}"
    assert stat.S_IMODE(os.stat(path).st_mode) == int(mode or "600", 8)
    c = Local(path)
    c.request("POST", "/v1/tokenize", json.dumps({"text": "abc"}), {"Content-Type": JSON})
    assert Reply(c.getresponse()).json["tokens"]
    c.close()
    run = samebit("tokens", "abc", "--url", d.url)
    assert run.returncode == 0, run.stderr
    d.stop()
    assert not os.path.exists(path)


def test_a_unix_socket_that_is_there(start, model, tmp_path):
    path = str(tmp_path / "s.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    start(None, "--listen", f"unix:{path}")
    for listen, kept in ((f"unix:{path}", path), (f"unix:{tmp_path}/file", None), ("unix:", None), (f"unix:{path},mode=9", None),
                         ("unix:" + "a" * 200, None)):
        if listen.endswith("file"):
            (tmp_path / "file").write_text("mine")
        run = subprocess.run([SAMEBITD, "--model", model, "--listen", listen], cwd=ROOT, capture_output=True, text=True,
                             timeout=60, check=False)
        assert run.returncode == 1 and "unix:" in run.stderr
        assert kept is None or stat.S_ISSOCK(os.stat(kept).st_mode)
    assert (tmp_path / "file").read_text() == "mine"


# ---- TLS ----


def certificate(folder, name):
    cert, key = str(folder / f"{name}.crt"), str(folder / f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key


def over_tls(daemon, cert, method="GET", path="/v1/model", body=None):
    c = http.client.HTTPSConnection(daemon.host, daemon.port, timeout=60, context=ssl.create_default_context(cafile=cert))
    try:
        c.request(method, path, body, {"Content-Type": JSON})
        return Reply(c.getresponse())
    finally:
        c.close()


def test_tls(start, tmp_path):
    cert, key = certificate(tmp_path, "one")
    d = start(None, "--tls-cert", cert, "--tls-key", key)
    assert d.url.startswith("https://")
    assert over_tls(d, cert).status == 200
    # a reply of some size, streamed
    reply = over_tls(d, cert, "POST", "/v1/trace", json.dumps({"tokens": [1, 2, 3] * 50, "values": ["*"], "format": "json"}))
    assert reply.status == 200 and len(reply.body) > 1 << 20
    run = samebit("tokens", "abc", "--url", d.url, SAMEBIT_CA_FILE=cert)
    assert run.returncode == 0, run.stderr
    assert samebit("tokens", "abc", "--url", d.url).returncode == 2  # nobody vouches for it
    s = d.socket()
    s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" not in s.recv(1000)
    s.close()
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = version
        with pytest.raises(OSError):
            old.wrap_socket(d.socket())


def test_a_certificate_is_read_again(start, tmp_path):
    cert, key = certificate(tmp_path, "one")
    new_cert, new_key = certificate(tmp_path, "two")
    d = start(None, "--tls-cert", cert, "--tls-key", key)
    old = (tmp_path / "one.crt").read_text()
    assert over_tls(d, cert).status == 200
    os.replace(new_cert, cert)
    d.process.send_signal(signal.SIGHUP)  # the new certificate with the old key: refused
    wait_for(lambda: "not the key of the certificate" in d.said())
    (tmp_path / "old.crt").write_text(old)
    assert over_tls(d, str(tmp_path / "old.crt")).status == 200
    os.replace(new_key, key)
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "were read again" in d.said())
    assert over_tls(d, cert).status == 200


def test_tls_files_that_are_wrong(model, tmp_path):
    cert, key = certificate(tmp_path, "one")
    other = certificate(tmp_path, "two")[1]
    empty = write(tmp_path / "empty", "")
    for arguments, message in ((["--tls-cert", cert], "belong together"), (["--tls-cert", cert, "--tls-key", other], "not the key"),
                               (["--tls-cert", empty, "--tls-key", key], empty), (["--tls-cert", cert, "--tls-key", "/nowhere"], "/nowhere")):
        run = subprocess.run([SAMEBITD, "--model", model, "--listen", "127.0.0.1:0", *arguments], cwd=ROOT, capture_output=True,
                             text=True, timeout=60, check=False)
        assert run.returncode in (1, 2) and message in run.stderr


# ---- what is said ----


def test_the_log_has_no_secrets(start, tokens):
    d = start(None, "--token-file", tokens)
    header = {"Authorization": f"Bearer {ALICE}", "Content-Type": JSON}
    for path, body in (("/v1/tokenize", {"text": "my secret plan"}), ("/v1/generate", {"prompt": "my secret plan", "max_tokens": 2}),
                       ("/v1/trace", {"prompt": "my secret plan", "values": ["secret.value"]}), ("/v1/tokenize", {"my secret field": 1})):
        d.request("POST", path, json.dumps(body).encode(), header)
    d.get("/v1/values?glob=secret", Authorization=f"Bearer {ALICE}")
    d.get("/v1/model", Authorization="Bearer secret-of-somebody")
    wait_for(lambda: d.said().count("/v1/") == 6)
    assert "secret" not in d.said() and ALICE not in d.said()
    assert "by alice" in d.said()
