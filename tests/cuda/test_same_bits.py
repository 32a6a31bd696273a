"""The CUDA backend against the CPU backend: every value, 0 differing bits.

The CPU backend's bits are PyTorch's (make parity), so these are too."""
import os

import pytest

import daemon
import devices
import models

NUMERICS = ["torch-cpu/avx512_bf16", "torch-cpu/avx2"]
ATTENTIONS = ["sdpa", "eager"]
ORDERS = ["forward", "reverse", "7"]  # in which the threads of an emulated block run
TINY = ["tiny-qwen2", "tiny-qwen3", "tiny-llama", "tiny-llama-biases", "tiny-llama-f16", "tiny-mistral",
        "tiny-qwen2-sliding", "tiny-llama3-rope", "tiny-wide"]


def test_the_device_is_told(device):
    assert (device == devices.EMULATED) == ("emulated" in os.environ["SAMEBIT_BUILD"].split(os.sep))


def prompt(count):
    return [(i * 7919 + 13) % 250 for i in range(count)]


REQUESTS = [{"tokens": prompt(1), "steps": 2}, {"tokens": prompt(5), "steps": 2}, {"tokens": prompt(17), "steps": 1},
            {"tokens": prompt(37), "steps": 1, "batch": 3}, {"tokens": prompt(9), "steps": 1, "padding": 4},
            {"tokens": prompt(21), "steps": 1, "chunks": [9, 1, 2, 3, 6]}]
REAL = [{"tokens": [504, 3575, 282, 4649, 314], "steps": 2}]


def digests(server, attention, request, values=("*",)):
    reply = server.json("/v1/trace", {**request, "values": list(values), "attention": attention, "format": "digest"})
    return {name: value["sha256"] for name, value in reply["values"].items()}


def compare(folder, numerics, requests, order):
    """Values compared, over both attentions."""
    compared = 0
    with daemon.Daemon(folder, numerics, 2) as cpu, daemon.Daemon(
            folder, numerics, 1, device="cuda:0", environment={"SAMEBIT_EMULATED_ORDER": order}) as cuda:
        assert cuda.json("/v1/model")["device"] == "cuda:0"
        for attention in ATTENTIONS:
            for request in requests:
                want, got = digests(cpu, attention, request), digests(cuda, attention, request)
                wrong = [name for name in want if got.get(name) != want[name]]
                assert list(got) == list(want) and not wrong, (
                    f"{attention} {len(request['tokens'])} tokens: {len(wrong)} of {len(want)} differ, first {wrong[:4]}")
                compared += len(want)
    return compared


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("name,order", [(n, ORDERS[i % len(ORDERS)]) for i, n in enumerate(TINY)])
def test_tiny(name, order, numerics):
    folder, why = models.find(name)
    assert folder, why
    assert compare(folder, numerics, REQUESTS, order) > 100


# Every value asked for keeps operations apart; these leave them together: nothing, what ends a group, one value.
LEAVES = ["logits", "layer_*_final", "model.layers.*.self_attn.?_proj", "model.layers.*.mlp.product"]


@pytest.mark.parametrize("name", ["tiny-wide", "tiny-mistral"])
def test_operations_done_as_one(name):
    folder, why = models.find(name)
    assert folder, why
    with daemon.Daemon(folder, NUMERICS[0], 2) as cpu, daemon.Daemon(
            folder, NUMERICS[0], 1, device="cuda:0", environment={"SAMEBIT_EMULATED_ORDER": "7"}) as cuda:
        for attention in ATTENTIONS:
            for request in REQUESTS:
                want = digests(cpu, attention, request)
                for values in LEAVES:
                    names = [values] + [f"step_{n + 1}/{values}" for n in range(request["steps"])]
                    got = digests(cuda, attention, request, ["logits", *names[1:]] if "chunks" in request else names)
                    assert got and all(want[value] == got[value] for value in got), (attention, request, values)


def test_operations_step_aside_for_each_value():
    """One value at a time is asked for: it and the logits are what they are with all."""
    folder, why = models.find("tiny-wide")
    assert folder, why
    with daemon.Daemon(folder, NUMERICS[0], 1, device="cuda:0") as cuda:
        request = {"tokens": prompt(3), "steps": 1}
        want = digests(cuda, "sdpa", request)
        for value in want:
            got = digests(cuda, "sdpa", request, [value, "step_1/logits"])
            assert got[value] == want[value] and all(got[name] == want[name] for name in got), value


def test_real_model():
    """SmolLM2-135M, 5 tokens and 2 cached steps."""
    folder, why = models.find("smollm2-135m")
    if not folder:
        pytest.skip(f"skip: {why}")
    count = compare(folder, NUMERICS[0], REAL, "forward")
    assert count > 1000
    print(f"smollm2-135m: {count} values, 0 differing")
