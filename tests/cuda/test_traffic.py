"""What a decode step launches and moves; traffic.py shows it."""
import pytest

import models
import traffic

pytestmark = pytest.mark.usefixtures("emulated")

GATHERS = 2  # of the logits: as a value, and the last row for the next token


@pytest.mark.parametrize("numerics,attention", [("torch-cpu/avx512_bf16", "sdpa"), ("torch-cpu/avx512_bf16", "eager")])
def test_one_launch_a_value(numerics, attention):
    folder, why = models.find("tiny-qwen2")
    assert folder, why
    found = traffic.measure(folder, numerics, attention, past=16)
    # rows of cos and sin are copied from the host's table
    assert sum(found["launches"].values()) == found["steps"] - found["rotary"] + GATHERS
    assert found["copied"] == [("host-to-device", "8"), ("host-to-device", "32"), ("host-to-device", "32"),
                               ("device-to-host", "4096")]


def test_weights_and_cache_are_nearly_all():
    """SmolLM2-135M: what else is moved is less than a hundredth."""
    folder, why = models.find("smollm2-135m")
    if not folder:
        pytest.skip(f"skip: {why}")
    found = traffic.measure(folder, "torch-cpu/avx512_bf16", "sdpa", past=16)
    assert found["least"] <= sum(found["moved"].values()) < 1.01 * found["least"]


def test_bytes_of_a_step():
    """Two heads share one of keys; a value is counted where it is made and where it is read."""
    values = [{"name": "e", "op": "embedding", "inputs": ["tokens"], "shape": ["T", 4]},
              {"name": "q", "op": "linear", "inputs": ["e"], "shape": ["T", 4]},
              {"name": "k", "op": "cache_append", "inputs": ["q"], "shape": [1, "min(L, 5)", 2]},
              {"name": "s", "op": "matmul_qk", "inputs": ["q", "k"], "shape": [2, "T", "min(L, 5)"]}]
    tensors = {"e.weight": (100, 4), "q.weight": (4, 4), "q.bias": (4,)}
    moved = traffic.step_bytes(values, tensors, keys=7, copies=True)
    assert moved["weights"] == 2 * (4 + 16 + 4)
    assert moved["keys and values"] == 2 * 5 * 2
    assert moved["copies of keys and values"] == 2 * 2 * (2 * 5 * 2)
    assert moved["activations"] == (8 + 8) + (8 + 8) + 2 * 2 * 2 + (8 + 2 * 2 * 5)
