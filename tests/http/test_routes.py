"""Routes, the catalogue, the model's page, health while loading, the command line."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import JSON, ROOT, SAMEBITD, TOKENS, Daemon


def test_the_ready_line(daemon):
    assert re.fullmatch(r"samebitd: listening on http://127\.0\.0\.1:\d+ \(model tiny-qwen2, "
                        r"numerics torch-cpu/avx512_bf16, attention sdpa, .*\)\n", daemon.line)


def test_health(daemon):
    assert daemon.get("/health").json == {"status": "ok"}


@pytest.mark.parametrize("method, path, status, allow", [
    ("GET", "/", 404, None), ("GET", "/v1", 404, None), ("POST", "/v1/traces", 404, None),
    ("GET", "/health/", 404, None), ("GET", "/V1/MODEL", 404, None), ("GET", "//health", 404, None),
    ("GET", "/v1/trace", 405, "POST"), ("POST", "/v1/model", 405, "GET, HEAD"),
    ("DELETE", "/health", 405, "GET, HEAD"), ("PUT", "/v1/generate", 405, "POST"),
    ("OPTIONS", "/v1/trace", 405, "POST"), ("BREW", "/v1/trace", 405, "POST"), ("HEAD", "/v1/trace", 405, "POST"),
])
def test_what_is_not_there(daemon, method, path, status, allow):
    reply = daemon.request(method, path)
    assert reply.status == status and reply.headers["Allow"] == allow
    if method != "HEAD":
        assert reply.error[1] == ("path" if status == 404 else "method")
        assert status != 404 or reply.error[2].endswith("/v1/logits, /v1/generate")


def test_head_is_get_without_a_body(daemon):
    get, head = daemon.get("/v1/model"), daemon.request("HEAD", "/v1/model")
    assert head.status == 200 and head.body == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_get_takes_json_only(daemon):
    for path in ("/health", "/v1/model", "/v1/values"):
        assert daemon.get(path, Accept="text/html").error[:2] == (406, "Accept")
        assert daemon.get(path, Accept="text/html, */*;q=0.1").status == 200


def test_a_connection_is_kept(daemon):
    connection = daemon.connect()
    for i in range(20):
        connection.request("POST", "/v1/trace", f'{{"tokens":[{i}],"values":["logits"],"format":"digest"}}',
                           {"Content-Type": JSON})
        response = connection.getresponse()
        assert response.status == 200 and response.read()
        if i == 0:
            first = connection.sock
        assert connection.sock is first
        connection.request("GET", "/nowhere")
        assert connection.getresponse().read()
    connection.close()


def test_requests_may_be_sent_ahead(daemon):
    s = daemon.socket()
    s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    got = b""
    while got.count(b'{"status":"ok"}') < 3:
        part = s.recv(65536)
        assert part
        got += part
    s.close()


def test_model(daemon):
    found = daemon.get("/v1/model").json
    assert found["vocab_size"] == 1024 and found["max_positions"] == 2048
    assert found["architecture"] == found["config"]["architectures"][0] == "Qwen2ForCausalLM"
    assert found["config"]["hidden_size"] == 64 and found["limits"]["tokens"] == 8192
    with open(os.path.join(ROOT, "configs", "server.json"), encoding="utf-8") as file:
        assert [*found["limits"]] == [key for key, value in json.load(file).items() if isinstance(value, int)]
    assert found["steps"] == len(daemon.get("/v1/values").json["values"])
    assert found["tokenizer"]["vocab_size"] > 1000


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_values(daemon, attention):
    reply = daemon.get(f"/v1/values?attention={attention}").json
    assert reply["attention"] == attention
    values = reply["values"]
    names = [v["name"] for v in values]
    assert names[0] == "model.embed_tokens" and names[-1] == "lm_head" and len(set(names)) == len(names)
    for i, v in enumerate(values):
        assert v["dtype"] == "BF16" and v["op"] and v["mirror"] and v["shape_text"].startswith("[")
        assert all(name in names[:i] + ["tokens", "positions"] for name in v["inputs"])
        assert "layer" not in v or f".{v['layer']}" in v["name"]
    by_name = {v["name"]: v for v in values}
    q = by_name["model.layers.0.self_attn.q_proj"]
    assert q["inputs"] == ["model.layers.0.input_layernorm"] and q["shape"] == ["T", 64] and q["op"] == "linear"
    assert re.fullmatch(r"transformers 5\.18\.0 models/qwen2/modeling_qwen2\.py:\d+", q["source"])
    assert "logits" in by_name["lm_head"]["aliases"]
    assert ("model.layers.0.self_attn.weights" in by_name) == (attention == "eager")
    if attention == "eager":
        assert "layer_1.attn_weights" in by_name["model.layers.1.self_attn.weights"]["aliases"]
        assert by_name["model.layers.0.self_attn.weights"]["shape_text"] == "[4, T, L]"
    else:
        assert by_name["model.layers.0.self_attn.context"]["op"] == "sdpa"
        assert daemon.get("/v1/values").json == reply


def test_values_filtered(daemon):
    every = daemon.get("/v1/values").json["values"]
    one = daemon.get("/v1/values?layer=1").json["values"]
    assert one == [v for v in every if v.get("layer") == 1] and one
    some = daemon.get("/v1/values?glob=*.mlp.*&layer=0").json["values"]
    assert some == [v for v in every if v["name"].startswith("model.layers.0.mlp.")]
    alias = daemon.get("/v1/values?glob=layer_*.attn_output").json["values"]
    assert [v["name"] for v in alias] == [f"model.layers.{i}.self_attn.o_proj" for i in (0, 1)]
    assert daemon.get("/v1/values?glob=nothing").json["values"] == []


@pytest.mark.parametrize("query, param", [
    ("layer=2", "layer"), ("layer=-1", "layer"), ("layer=x", "layer"), ("layer=", "layer"), ("layer", "layer"),
    ("layer=99999999999999999999", "layer"), ("glob=", "glob"), ("x=1", "x"), ("layer=0&layer=0", "layer"), ("attention=flash", "attention"), ("attention=", "attention"),
    ("&".join(f"a{i}=1" for i in range(20)), "query")])
def test_bad_queries(daemon, query, param):
    assert daemon.get("/v1/values?" + query).error[:2] == (400, param)
    assert daemon.get("/v1/model?x=1").error[:2] == (400, "x")


def test_ipv6(model):
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    d = Daemon(model, arguments=["--listen", "[::1]:0"])
    try:
        assert d.host == "::1" and d.get("/health").status == 200
    finally:
        d.stop()


# ---- starting and stopping ----

def run(*arguments, cwd=ROOT, environment=None):
    return subprocess.run([SAMEBITD, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120,
                          check=False, env=os.environ | (environment or {}))


def test_help_and_version():
    done = run("--help")
    assert done.returncode == 0 and "--model" in done.stdout and not done.stderr
    done = run("--version")
    assert done.returncode == 0 and re.fullmatch(r"samebitd \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("arguments, says", [
    ([], "--model"), (["--model"], "--model"), (["--modem", "x"], "--modem"), (["stray"], "stray"),
    (["--model", "MODEL", "--threads", "0"], "--threads"), (["--model", "MODEL", "--threads", "x"], "--threads"),
    (["--model", "MODEL", "--numerics", "torch-gpu"], "torch-cpu/avx2"),
    (["--model", "MODEL", "--attention", "flash"], "eager, sdpa"), (["--model", "MODEL", "--isa", "mmx"], "mmx"),
    (["--model", "MODEL", "--device", "tpu"], "tpu"), (["--model", "/nonexistent"], "/nonexistent"),
    (["--model", "MODEL", "--device", "cuda"], "cuda:N"), (["--model", "MODEL", "--device", "cuda:9999"], "cuda:9999"),
    (["--model", "MODEL", "--numerics", "torch-cuda"], 'torch-cuda needs a device "cuda:N", not "cpu"'),
    (["--model", "MODEL", "--numerics", "torch-cuda", "--device", "cpu"], "torch-cuda needs"),
    (["--model", "MODEL", "--numerics", "torch-cpu/amx_bf16"], "--torch-threads N"),
    (["--model", "MODEL", "--numerics", "torch-cpu/avx2", "--torch-threads", "2"], "depend on no threads"),
    (["--model", "MODEL", "--numerics", "torch-cpu/amx_bf16", "--torch-threads", "0"], "1 to 256"),
    (["--model", "MODEL", "--numerics", "torch-cpu/amx_bf16", "--torch-threads", "2", "--torch-host", "l1=48"], "l1 is 16384 to"),
    (["--model", "MODEL", "--numerics", "torch-cpu/avx512", "--torch-threads", "2", "--torch-host", "l1=32K"], "depend on no caches"),
    (["--model", "MODEL", "--python", "python3"], "--which-numerics"),
    (["--model", "MODEL", "--numerics", "torch-cpu/avx512", "--torch-threads", "2", "--attention", "sdpa"], "eager is"),
    (["--model", "MODEL", "--listen", "nowhere"], "nowhere"), (["--model", "MODEL", "--listen", "1.2.3.4:1"], "1.2.3.4"),
    (["--model", "MODEL", "--listen", "127.0.0.1:99999"], "99999"),
    (["--model", "MODEL", "--config", "/nonexistent.json"], "/nonexistent.json"),
    (["--model", "MODEL", "--families", "/nonexistent"], "/nonexistent"),
])
def test_bad_command_lines(model, arguments, says):
    done = run("--listen", "127.0.0.1:0", *[model if a == "MODEL" else a for a in arguments])
    assert done.returncode in (1, 2) and done.stdout == ""
    assert done.stderr.startswith("samebitd: ") and says in done.stderr and done.stderr.count("\n") == 1


def test_instructions_of_the_environment(model, start):
    """SAMEBIT_ISA says which; --isa is stronger."""
    assert start(environment={"SAMEBIT_ISA": "plain"}).get("/v1/model").json["isa"] == "plain"
    assert start(None, "--isa", "plain", environment={"SAMEBIT_ISA": "mmx"}).get("/v1/model").json["isa"] == "plain"
    done = run("--listen", "127.0.0.1:0", "--model", model, environment={"SAMEBIT_ISA": "mmx"})
    assert done.returncode in (1, 2) and done.stdout == ""
    assert done.stderr.startswith("samebitd: ") and 'SAMEBIT_ISA "mmx"' in done.stderr and '"plain"' in done.stderr


@pytest.mark.parametrize("text, says", [
    ('{"tokens": "many"}', "tokens"), ('{"tokens": 0}', "tokens"), ('{"tokens": 1.5}', "tokens"),
    ('{"token": 5}', "token"), ('{"address": 5}', "address"), ("[]", "object"), ("{", "line"), ("", "line"),
    ('{"tokens": 1, "tokens": 2}', "tokens"), ('{"address": "0.0.0.0:0"}', "--listen"),
    ('{"body_bytes": -1}', "body_bytes")])
def test_bad_configurations(model, tmp_path, text, says):
    path = tmp_path / "server.json"
    path.write_text(text)
    done = run("--model", model, "--config", str(path))
    assert done.returncode == 1 and str(path) in done.stderr and says in done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1


def test_an_address_in_use(daemon, model):
    done = run("--model", model, "--listen", f"127.0.0.1:{daemon.port}")
    assert done.returncode == 1 and f"127.0.0.1:{daemon.port}" in done.stderr


def test_it_finds_its_configuration_from_anywhere(model, tmp_path):
    process = subprocess.Popen([SAMEBITD, "--model", model, "--listen", "127.0.0.1:0"], cwd=tmp_path,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"listening" in process.stdout.readline()
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and out == b"" and err == b""


def with_ballast(path, size):
    """Gives a safetensors file one more tensor, all zero, that takes no room on the disk."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    end = len(data) - start
    header["zzz.ballast"] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [end, end + size]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data[start:])
        f.truncate(8 + len(text) + end + size)


def test_while_loading(model, tmp_path):
    """A gigabyte of zeros keeps the digest busy for a while."""
    folder = tmp_path / "slow"
    shutil.copytree(model, folder)
    with_ballast(folder / "model.safetensors", 1 << 30)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([SAMEBITD, "--model", str(folder), "--listen", f"127.0.0.1:{port}"], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def get(method, path):
        for _ in range(500):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.request(method, path)
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    try:
        for _ in range(100):  # from "starting" to what waits for the file
            response, body = get("GET", "/health")
            if response.status == 503 and json.loads(body)["what"] != "starting":
                break
            time.sleep(0.02)
        if process.poll() is not None or response.status == 200:
            pytest.skip("loading did not wait for the file")
        assert response.status == 503 and response.headers["Retry-After"]
        found = json.loads(body)
        assert found["status"] == "loading" and 0 <= found["progress"] <= 1 and found["what"]
        for method, path in (("GET", "/v1/model"), ("POST", "/v1/trace")):
            response, body = get(method, path)
            assert response.status == 503 and response.headers["Retry-After"] and b"loaded" in body
    finally:
        process.send_signal(signal.SIGTERM)
        threading.Timer(5, process.kill).start()
        out, _ = process.communicate()
    assert process.returncode == 0 and out == b""
