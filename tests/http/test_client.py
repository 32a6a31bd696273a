"""The commands of build/samebit: against a stub daemon that can misbehave, on a terminal, and against samebitd."""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import numpy
import pytest
from client_tools import (DIFFERENT, META, ROOT, SAME, SAMEBIT, TROUBLE, Stub, bf16, compare, samebit, trace_of,
                          whole_trace, write)


def test_trace_to_file(tmp_path):
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        done = samebit("trace", "hi", "--steps", "1", "--values", "logits,layer_0.*", "-v", "a,b",
                       "--positions", "0,5", "-o", out, url=stub.url, status=SAME)
        method, path, headers, asked = stub.asked[0]
        assert (method, path, headers["Accept"]) == ("POST", "/v1/trace", "application/octet-stream")
        assert "Expect" not in headers
        assert json.loads(asked) == {"prompt": "hi", "steps": 1, "positions": [0, 5],
                                     "values": ["logits", "layer_0.*", "a,b"]}
        assert out.read_bytes() == body and "21 values" in done.text
        assert done.said == ""
        assert sorted(os.listdir(tmp_path)) == ["run.safetensors", "source"]
        assert samebit("trace", "hi", "-o", "-", url=stub.url, status=SAME).stdout == body
        assert json.loads(stub.asked[-1][3])["values"] == ["*"]
        samebit("trace", "--tokens", "1,2", "-o", "/dev/null", url=stub.url, status=SAME)
        assert json.loads(stub.asked[-1][3])["tokens"] == [1, 2]
        report = json.loads(samebit("trace", "hi", "-o", out, "--json", url=stub.url, status=SAME).text)
        assert report["bytes"] == len(body) and report["metadata"]["model"] == "m"
        samebit("trace", "-", "-o", out, url=stub.url, status=SAME,
                stdin=open(os.path.join(ROOT, "LICENSE"), "rb"))
        assert "MIT" in json.loads(stub.asked[-1][3])["prompt"]


@pytest.mark.parametrize("length", [None, False, 0])
def test_broken_transfer(tmp_path, length):
    """A reply that ends early, whether or not its length was announced, leaves no file."""
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    out.write_bytes(b"what was there")
    for cut in (0, 5, 8, 100, len(body) // 2, len(body) - 1):
        announced = {None: len(body), False: False, 0: cut}[length]
        with Stub(lambda h, _: h.reply(200, body[:cut], "application/octet-stream", announced)) as stub:
            done = samebit("trace", "hi", "-o", out, url=stub.url, status=TROUBLE)
            assert "broke off" in done.said or "not a safetensors" in done.said, done.said
            assert out.read_bytes() == b"what was there"
            assert sorted(os.listdir(tmp_path)) == ["run.safetensors", "source"]
            samebit("trace", "hi", "-o", "-", url=stub.url, status=TROUBLE)


def test_too_long_or_no_safetensors(tmp_path):
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    for wrong in (body + b"x", b"<html>no</html>" * 9, b"{}", struct.pack("<Q", 2 ** 60) + body[8:], bytes(64),
                  struct.pack("<Q", 4) + b"[1] "):
        with Stub(lambda h, _: h.reply(200, wrong, "application/octet-stream")) as stub:
            samebit("trace", "hi", "-o", out, url=stub.url, status=TROUBLE)
            assert os.listdir(tmp_path) == ["source"]


def test_unwritable_output(tmp_path):
    body = whole_trace(tmp_path)
    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        for path in (tmp_path, "/nonexistent/run.safetensors", "/dev/full", "/proc/run.safetensors"):
            assert str(path) in samebit("trace", "hi", "-o", path, url=stub.url, status=TROUBLE).said
        with open("/dev/full", "wb") as full:
            assert "standard output" in samebit("trace", "hi", "-o", "-", url=stub.url, stdout=full,
                                                status=TROUBLE).said


def test_disk_full(tmp_path):
    """A limit on the size of files stands for a full disk."""
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"

    def limit():
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        samebit("trace", "hi", "-o", out, url=stub.url, status=TROUBLE, preexec_fn=limit)
        assert os.listdir(tmp_path) == ["source"]


def test_interrupted(tmp_path):
    body = whole_trace(tmp_path)
    out = tmp_path / "run.safetensors"
    stop = threading.Event()

    def stall(handler, _):
        handler.reply(200, body[:2000], "application/octet-stream", len(body))
        handler.wfile.flush()
        stop.wait(30)

    for number in (signal.SIGINT, signal.SIGTERM):
        with Stub(stall) as stub:
            process = subprocess.Popen([SAMEBIT, "trace", "hi", "-o", out, "--url", stub.url],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(1000):
                if len(os.listdir(tmp_path)) == 2:
                    break
                time.sleep(0.01)
            process.send_signal(number)
            _, said = process.communicate(timeout=20)
            assert process.returncode == TROUBLE and b"interrupted" in said
            assert os.listdir(tmp_path) == ["source"]
    stop.set()


def test_replace(tmp_path):
    body = whole_trace(tmp_path)
    values = write(tmp_path / "values", {"one": ("BF16", bf16(2, 3)), "two": ("F32", bf16(4).astype(numpy.uint32))})
    single = write(tmp_path / "single:x", {"any": ("BF16", bf16(3, seed=4))})
    with Stub(lambda h, _: h.reply(200, body, "application/octet-stream")) as stub:
        samebit("trace", "hi", "-o", "-", "--replace", f"layer_0.x={values}:two", "--replace", f"one={values}",
                "--replace", f"step_1/q={single}", url=stub.url, status=SAME)
        _, _, headers, asked = stub.asked[0]
        assert headers["Content-Type"] == "application/octet-stream"
        size = struct.unpack("<Q", asked[:8])[0]
        header = json.loads(asked[8:8 + size])
        assert json.loads(header["__metadata__"]["request"]) == {"prompt": "hi", "values": ["*"]}
        assert header["layer_0.x"]["dtype"] == "F32" and header["one"]["shape"] == [2, 3]
        assert asked[8 + size:] == (bf16(4).astype(numpy.uint32).tobytes() + bf16(2, 3).tobytes()
                                    + bf16(3, seed=4).tobytes())
        for wrong, said in ((f"x={values}", "NAME=FILE:TENSOR"), (f"x={values}:no", "no tensor no"),
                            ("=x", "name=file"), (f"x={tmp_path / 'none'}:y", "none")):
            assert said in samebit("trace", "hi", "-o", "-", "--replace", wrong, url=stub.url,
                                   status=TROUBLE).said


COMMANDS = [["generate", "x"], ["logits", "x"], ["values"], ["trace", "x", "--digest"], ["trace", "x", "-o", "-"],
            ["tokens", "x"], ["tokens", "--decode", "1"], ["model"], ["health"], ["logits", "x", "--full", "-o", "-"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_errors_of_the_daemon(command):
    error = {"error": {"message": "no value called 'x'; near: y", "param": "values[0]", "code": 400}}
    loading = {"error": {"message": "the model is being loaded", "param": None, "code": 503}}
    for status, body, said in (
            (400, error, "no value called 'x'; near: y"), (503, loading, "being loaded"),
            (503, {"status": "loading", "what": "weights", "progress": 0.42}, "loading (weights), 42%"),
            (502, b"<html>Bad Gateway</html>", "502"), (500, b"", "500"), (404, b"\xff\xfe\0", "404"),
            (400, {"error": "flat"}, "400"), (400, [1], "400"), (301, b"", "301"), (204, b"", "")):
        with Stub(lambda h, _: h.reply(status, body, "text/html")) as stub:
            assert said in samebit(*command, url=stub.url, status=TROUBLE).said


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_replies_of_another_kind(command):
    for body in (b"hello", b"", b"[]", b"3", b"null", b"\xff", b'{"values": 3}', b'{"top_k": 3, "text": 4, "tokens": "x"}'):
        with Stub(lambda h, _: h.reply(200, body)) as stub:
            done = samebit(*command, url=stub.url)
            assert done.returncode == TROUBLE or command[0] in ("model", "health", "trace")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_daemon(command):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
        said = samebit(*command, url=url, status=TROUBLE).said
        assert "cannot reach" in said and url in said
        assert url in samebit(*command, "--url", url, url="http://127.0.0.1:1", status=TROUBLE).said


def test_hung_up():
    def hang_up(handler, _):
        handler.close_connection = True

    with Stub(hang_up) as stub:
        for command in COMMANDS:
            assert "broke off" in samebit(*command, url=stub.url, status=TROUBLE).said


def test_generate():
    lines = [{"token": 1, "text": " one"}, {"token": 2, "text": "\u00e9\U0001f600"}, {"token": 3, "text": "\x1b[31m"}]
    end = {"done": True, "text": "", "tokens": [1, 2, 3], "reason": "length"}

    def answer(objects, tail="\n"):
        body = "\n".join(json.dumps(o) for o in objects) + tail
        return lambda h, _: h.reply(200, body.encode(), "application/x-ndjson", False)

    with Stub(answer(lines + [end])) as stub:
        done = samebit("generate", "Hello", "-n", "7", "--no-stop", url=stub.url, status=SAME)
        assert done.text == "Hello one\u00e9\U0001f600\\x1b[31m\n"
        assert json.loads(stub.asked[0][3]) == {"prompt": "Hello", "max_tokens": 7, "stop_at_eos": False,
                                                "stream": True}
        told = samebit("generate", "Hello", "--json", url=stub.url, status=SAME).text.splitlines()
        assert [json.loads(line) for line in told] == lines + [end]
    with Stub(answer(lines + [end], tail="")) as stub:
        samebit("generate", "Hello", url=stub.url, status=SAME)
    for broken in (lines, lines + [{"error": {"message": "too slow", "param": None, "code": 504}}], [[1]], []):
        with Stub(answer(broken)) as stub:
            samebit("generate", "Hello", url=stub.url, status=TROUBLE)


def test_text_comes_at_once():
    """A token is shown when it comes, not when the last one has."""
    go = threading.Event()

    def answer(handler, _):
        handler.reply(200, b'{"token":1,"text":" one"}\n', "application/x-ndjson", False)
        handler.wfile.flush()
        go.wait(20)
        handler.wfile.write(b'{"done":true}\n')

    with Stub(answer) as stub:
        process = subprocess.Popen([SAMEBIT, "generate", "Hello", "--url", stub.url], stdout=subprocess.PIPE)
        assert os.read(process.stdout.fileno(), 5) == b"Hello"
        assert os.read(process.stdout.fileno(), 100) == b" one"
        go.set()
        assert process.wait(20) == SAME
        process.stdout.close()


def test_logits_and_tokens_tables():
    top = {"top_k": [[{"id": 7, "token": " the", "logit": 12.5, "logprob": -0.25},
                      {"id": 1234, "token": "\n", "logit": "NaN", "logprob": "-Infinity"}]], "tokens": [1]}
    with Stub(lambda h, _: h.reply(200, top)) as stub:
        text = samebit("logits", "x", "--top-k", "2", url=stub.url, status=SAME).text.splitlines()
        assert json.loads(stub.asked[0][3]) == {"prompt": "x", "top_k": 2}
        assert text[0].split() == ["id", "token", "logit", "logprob"]
        assert text[1].split() == ["7", "'", "the'", "12.5", "-0.250000"]
        assert text[2].split() == ["1234", "'\\n'", "NaN", "-Infinity"]
        assert len({len(line) for line in text}) == 1  # aligned
        assert json.loads(samebit("logits", "x", "--json", url=stub.url).text) == top
    with Stub(lambda h, _: h.reply(200, {"tokens": [9, 10], "pieces": ["\u4f60", "\x1b[2J"]})) as stub:
        text = samebit("tokens", "x", url=stub.url, status=SAME).text
        assert "\u4f60" in text and "\\x1b[2J" in text and "\x1b" not in text
    with Stub(lambda h, _: h.reply(200, {"text": "a\nb"})) as stub:
        assert samebit("tokens", "--decode", "1,2", url=stub.url, status=SAME).text == "a\nb\n"


@pytest.mark.parametrize("command", [["generate", "x"], ["logits", "x"], ["trace", "x", "--digest"]])
def test_attention_is_asked_for(command):
    with Stub(lambda h, _: h.reply(500, {"error": {"message": "m"}})) as stub:
        samebit(*command, "--attention", "eager", url=stub.url, status=TROUBLE)
        samebit(*command, url=stub.url, status=TROUBLE)
        first, second = (json.loads(r[3]) for r in stub.asked)
        assert first["attention"] == "eager" and "attention" not in second
        if command[0] != "generate":
            samebit(*command, "--padding", "2", "--chunks", "3,4", url=stub.url, status=TROUBLE)
            third = json.loads(stub.asked[-1][3])
            assert third["padding"] == 2 and third["chunks"] == [3, 4]
            assert "--chunks" in samebit(*command, "--chunks", "3,x", url=stub.url, status=TROUBLE).said


# ---------------------------------------------------------------------------------------------
# a terminal

def on_terminal(*arguments, columns=120, **environment):
    import fcntl
    import pty
    import termios
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen([SAMEBIT, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave,
                               env=os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | environment)
    os.close(slave)
    out = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(master)
    process.wait(20)
    return out.decode().replace("\r\n", "\n")


def test_terminal(tmp_path):
    tensors = trace_of()
    a = write(tmp_path / "a", tensors, META)
    b = write(tmp_path / "b", dict(tensors) | {"lm_head": ("BF16", bf16(3, 500, seed=5))}, META)
    coloured = on_terminal("compare", a, b)
    assert "\x1b[1;31mdiffers\x1b[0m" in coloured
    plain = on_terminal("compare", a, b, NO_COLOR="1")
    assert "\x1b" not in plain
    assert "\x1b" not in on_terminal("compare", a, b, TERM="dumb")
    for columns in (80, 100, 140, 200):
        text = on_terminal("compare", a, b, "--all", columns=columns, NO_COLOR="1")
        table = [line for line in text.splitlines() if "equal bits" in line or "differs" in line]
        assert all(len(line) <= columns for line in table), columns
        assert ("too narrow" in text) == (columns < 140), columns
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_progress_on_a_terminal_only(tmp_path):
    body = whole_trace(tmp_path)

    def slowly(handler, _):
        handler.reply(200, body[:2000], "application/octet-stream", len(body))
        for at in range(2000, len(body), 1500):
            time.sleep(0.15)
            handler.wfile.write(body[at:at + 1500])

    with Stub(slowly) as stub:
        text = on_terminal("trace", "x", "-o", tmp_path / "out", "--url", stub.url)
        assert re.search(r"\[#+\.+\] +\d+%", text) and "model.layers" in text
        assert "21 values" in text
        assert samebit("trace", "x", "-o", tmp_path / "out", url=stub.url, status=SAME).said == ""


# ---------------------------------------------------------------------------------------------
# samebitd itself

def test_against_samebitd(tmp_path, daemon):
    url = f"http://{daemon.host}:{daemon.port}"
    path = tmp_path / "run.safetensors"
    assert "ok" in samebit("health", url=url, status=SAME).text
    assert "numerics" in samebit("model", url=url, status=SAME).text
    assert "model.layers.0" in samebit("values", "--layer", "0", url=url, status=SAME).text
    assert samebit("values", "no*such", url=url, status=TROUBLE).said
    assert samebit("generate", "Hello", "-n", "3", url=url, status=SAME).text.startswith("Hello")
    assert len(samebit("logits", "Hello", url=url, status=SAME).text.splitlines()) == 6
    ids = json.loads(samebit("tokens", "Hello world", "--json", url=url, status=SAME).text)["tokens"]
    assert samebit("tokens", "-d", ",".join(map(str, ids)), url=url, status=SAME).text == "Hello world\n"
    samebit("trace", "Hello world", "--steps", "2", "-o", path, url=url, status=SAME)
    found = json.loads(samebit("compare", path, url, "--json", status=SAME).text)
    assert found["elements_differing"] == 0 and found["values"] > 50
    samebit("compare", url, url, "--prompt", "Hello world", "--steps", "2", status=SAME)
    digests = samebit("trace", "Hello world", "--digest", "-v", "logits", url=url, status=SAME).text
    assert re.search(r"lm_head +\[\d+, \d+\] +BF16 +[0-9a-f]{64}", digests)
    samebit("logits", "Hello", "--full", "-o", tmp_path / "logits", url=url, status=SAME)
    assert "model.norm" in samebit("trace", "x", "-v", "model.norn", "-o", path, url=url, status=TROUBLE).said


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("extra", [[], ["--positions", "last"], ["--positions", "0,2"], ["--padding", "1"],
                                   ["--chunks", "3,1"], ["--chunks", "2,2", "--padding", "1", "--positions", "last"]])
def test_a_file_is_compared_under_its_own_attention(tmp_path, daemon, start, attention, extra):
    path = tmp_path / "run"
    other = start({}, "--attention", "eager")
    said = samebit("trace", "--tokens", "5,6,7,8", "--steps", "1", "--attention", attention, *extra, "-o", path,
                   url=f"http://{daemon.host}:{daemon.port}", status=SAME).text
    assert said.strip().endswith(f", torch-cpu/avx512_bf16, {attention}")
    for d in (daemon, other):
        report, status = compare(path, f"http://{d.host}:{d.port}")
        assert status == SAME and report["elements_differing"] == 0 and len(report["rows"]) > 50, extra


def test_two_attentions_in_samebitd(tmp_path, daemon, start):
    other = start({}, "--attention", "eager")
    urls = [f"http://{d.host}:{d.port}" for d in (daemon, other)]
    ids = ",".join(str(i) for i in range(100))
    text = samebit("compare", *urls, "--tokens", ids, status=DIFFERENT).text
    assert re.search(r"^  attention +A sdpa\n +B eager$", text, re.M), text
    assert "first divergence: model.layers.0.self_attn.context" in text
    for attention in ("eager", "sdpa"):
        samebit("compare", *urls, "--tokens", ids, "--attention", attention, status=SAME)
    assert "eager" in samebit("trace", "x", "--digest", "-v", "attn_weights", url=urls[0], status=TROUBLE).said
    samebit("trace", "x", "--digest", "-v", "attn_weights", "--attention", "eager", url=urls[0], status=SAME)
    assert "scores" in samebit("values", "*scores", "--attention", "eager", url=urls[0], status=SAME).text
    assert "--attention" in samebit("values", "*scores", url=urls[0], status=TROUBLE).said
    text = samebit("model", url=urls[0], status=SAME).text
    assert re.search(r"^attention +sdpa$", text, re.M) and re.search(r"^attentions +eager, sdpa$", text, re.M)
    two = [samebit("logits", "The", "--attention", a, url=url, status=SAME).text
           for a, url in (("eager", urls[0]), ("eager", urls[1]))]
    assert two[0] == two[1]
    assert samebit("generate", "Hi", "-n", "2", "--attention", "flash", url=urls[0], status=TROUBLE).said


def test_replacing_in_samebitd(tmp_path, daemon):
    url = f"http://{daemon.host}:{daemon.port}"
    before, after = tmp_path / "before", tmp_path / "after"
    samebit("trace", "Hello world", "-o", before, url=url, status=SAME)
    raw = before.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    entry = json.loads(raw[8:8 + size])["model.layers.0.mlp.down_proj"]
    put = write(tmp_path / "put", {"x": ("BF16", bf16(*entry["shape"], seed=3))})
    samebit("trace", "Hello world", "-o", after, "--replace", f"model.layers.0.mlp.down_proj={put}", url=url,
            status=SAME)
    report, status = compare(before, after)
    assert status == DIFFERENT and report["first_divergence"] == "model.layers.0.mlp.down_proj"
    verdicts = [r["verdict"] for r in report["rows"]]
    assert set(verdicts[:verdicts.index("differs")]) == {"equal"}
    # A daemon is asked for what a file holds: the file of a replaced run differs from there on.
    assert compare(after, url)[0]["first_divergence"] == "model.layers.0.mlp.down_proj"
