"""A daemon on a CUDA device: the same bits, the device in every reply, what it does not have."""
import json

import pytest
from conftest import BINARY, TOKENS, Daemon
from test_routes import run

EAGER = {"attention": "eager"}


def start_without(model, *arguments):
    """What a daemon says that must not start."""
    done = run("--model", model, "--listen", "127.0.0.1:0", *arguments)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def daemon(model):
    """On the CPU, whatever SAMEBIT_DEVICE is."""
    d = Daemon(model, arguments=["--device", "cpu"])
    yield d
    d.stop()


@pytest.fixture(scope="module")
def has_cuda(model):
    """Whether it was built with CUDA and finds a device: no machine has so many."""
    return "there is no cuda:9999" in start_without(model, "--device", "cuda:9999")


@pytest.fixture
def cuda(has_cuda, start):
    if not has_cuda:
        pytest.skip("no CUDA device, or a build without CUDA")
    return start({}, "--device", "cuda:0")


def test_a_build_without_cuda_says_so(model, has_cuda):
    if has_cuda:
        pytest.skip("this build has CUDA")
    said = start_without(model, "--device", "cuda:0")
    assert "cuda:0" in said and ("built without CUDA: make CUDA=1" in said or "CUDA does not start" in said)
    said = start_without(model, "--device", "cuda:0", "--numerics", "torch-cuda")
    assert "cuda:0" in said


def test_what_is_the_cpus_is_refused(model, has_cuda):
    if not has_cuda:
        pytest.skip("no CUDA device, or a build without CUDA")
    assert "isa" in start_without(model, "--device", "cuda:0", "--isa", "plain")
    assert "threads" in start_without(model, "--device", "cuda:0", "--threads", "2")
    said = start_without(model, "--device", "cuda:0", "--numerics", "torch-cuda", "--attention", "sdpa")
    assert "torch-cuda" in said and "eager" in said


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_bits_are_the_cpus(daemon, cuda, attention):
    body = {"tokens": TOKENS, "values": ["*"], "steps": 2, "attention": attention, "format": "digest"}
    one, two = (d.post("/v1/trace", body).json for d in (daemon, cuda))
    assert one["values"] == two["values"] and one["tokens"] == two["tokens"]
    assert len(one["values"]) > 100
    for more in ({"positions": "last"}, {"positions": [0, 3, 7]}, {"chunks": [3, 5]}, {"padding": 2}):
        one, two = (d.post("/v1/trace", body | more).json for d in (daemon, cuda))
        assert one["values"] == two["values"], more
    assert daemon.trace(["*"], BINARY).tensors.keys() == cuda.trace(["*"], BINARY).tensors.keys()


def test_logits_and_generation_are_the_cpus(daemon, cuda):
    for path, more in (("/v1/logits", {"top_k": 5}), ("/v1/logits", {"positions": "all"}),
                       ("/v1/generate", {"max_tokens": 5, "stop_at_eos": False})):
        one, two = (d.post(path, {"tokens": TOKENS, **more}).json for d in (daemon, cuda))
        for key in ("top_k", "logits", "tokens", "text"):
            assert one.get(key) == two.get(key)
        assert "logprob_numerics" not in two


def test_a_replaced_value_reaches_the_device(daemon, cuda):
    size = len(daemon.trace(["layer_0_final"]).json["values"]["model.layers.0"]["data"][0])
    body = {"tokens": TOKENS, "values": ["*"], "format": "digest",
            "replace": {"layer_0_final": [[i * t / 64 for i in range(size)] for t in range(len(TOKENS))]}}
    one, two = (d.post("/v1/trace", body).json["values"] for d in (daemon, cuda))
    assert one == two


def test_every_reply_states_the_device(cuda):
    assert ", device cuda:0, isa sm_" in cuda.line and ", threads 0)" in cuda.line
    replies = [cuda.get("/v1/model").json, cuda.get("/v1/values").json, cuda.trace(["logits"]).json,
               cuda.trace(["logits"], BINARY).metadata, cuda.post("/v1/logits", {"tokens": TOKENS, "top_k": 1}).json,
               cuda.post("/v1/generate", {"tokens": TOKENS}).json]
    for reply in replies:
        assert reply["device"] == "cuda:0" and reply["isa"].startswith("sm_") and " + " in reply["host"]


def test_torch_cuda_is_eager(has_cuda, start):
    if not has_cuda:
        pytest.skip("no CUDA device, or a build without CUDA")
    d = start({}, "--device", "cuda:0", "--numerics", "torch-cuda")
    found = d.get("/v1/model").json
    assert found["numerics"] == "torch-cuda" and found["attention"] == "eager" and found["attentions"] == ["eager"]
    body = {"tokens": TOKENS, "values": ["*"], "format": "digest"}
    reply = d.post("/v1/trace", body)
    assert reply.status == 200 and reply.json["attention"] == "eager" and reply.json["numerics"] == "torch-cuda"
    assert d.post("/v1/trace", body | EAGER).json["values"] == reply.json["values"]
    for reply in (d.post("/v1/trace", body | {"attention": "sdpa"}), d.get("/v1/values?attention=sdpa"),
                  d.post("/v1/generate", {"tokens": TOKENS, "attention": "sdpa"})):
        status, param, message = reply.error
        assert (status, param) == (400, "attention") and "torch-cuda" in message and "eager" in message
    top = d.post("/v1/logits", {"tokens": TOKENS, "top_k": 2}).json
    assert top["logprob_numerics"] == "torch-cpu/avx512_bf16"
    last = d.post("/v1/generate", {"tokens": TOKENS, "stream": True, "max_tokens": 3}).body.splitlines()[-1]
    assert json.loads(last)["device"] == "cuda:0"
