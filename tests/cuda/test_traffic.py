"""What a decode step launches and moves; traffic.py shows it."""
import pytest

import estimate
import models
import traffic

pytestmark = pytest.mark.usefixtures("emulated")

GATHERS = 2  # of the logits: as a value, and the last row for the next token


# Norm; q, k and v; rope and cache; attention; o and residual; norm; gate to product; down and residual.
LAUNCHES = {"sdpa": 8, "eager": 12}  # of a layer; eager has five for attention
OUTSIDE = 3  # embedding, norm, lm_head


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_launches(attention):
    folder, why = models.find("tiny-wide")
    assert folder, why
    found = traffic.measure(folder, "torch-cpu/avx512_bf16", attention, past=16)
    assert sum(found["launches"].values()) == LAUNCHES[attention] * 2 + OUTSIDE + GATHERS, found["launches"]
    # rows of cos and sin are copied from the host's table
    assert found["copied"] == [("host-to-device", "8"), ("host-to-device", "32"), ("host-to-device", "32"),
                               ("device-to-host", "4096")]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_one_launch_a_value_where_all_are_asked_for(attention):
    folder, why = models.find("tiny-wide")
    assert folder, why
    found = traffic.measure(folder, "torch-cpu/avx512_bf16", attention, past=16, values=["step_1/*"])
    made = {name: n for name, n in found["launches"].items() if not name.startswith("gather")}
    together = 2 * 2  # q, k and v are all written by one, in two layers
    assert sum(made.values()) == found["steps"] - found["rotary"] - together, made


def test_the_estimate_knows_every_launch(tmp_path):
    """Its table says what each kernel does; a model of zeros with two layers."""
    config = estimate.SHAPES["smollm2-135m"] | {"num_hidden_layers": 2, "vocab_size": 1024}
    estimate.make_model(str(tmp_path), config)
    calls, host = estimate.measure(str(tmp_path), "torch-cpu/avx512_bf16", past=20, prefill=40)
    (kind, call, launches), (_, prefill, _) = calls
    assert kind == "decode" and len(launches) == 2 * LAUNCHES["sdpa"] + OUTSIDE + 1 and host >= 0
    rows = estimate.table_of(call, launches)
    assert rows["linear + linear + linear"][0] == 2 and rows["linear + linear + silu + mul"][0] == 2
    weights = 2 * sum(estimate.elements(s) for name, s in estimate.weight_shapes(config).items())
    least = sum(row[5] for row in rows.values())
    kept = 2 * 2 * 2 * 3 * 64 * 21  # bytes: of keys and values, layers, heads, width, tokens
    assert least == weights + kept + 2 * 576  # a row of the embedding, which is the head too
    products = sum(row[2] for label, row in rows.items() if "linear" in label)
    assert products == sum(estimate.elements(s) for s in estimate.weight_shapes(config).values() if len(s) == 2)


def test_what_the_estimate_does_not_know():
    step = {"op": "add", "name": "a", "inputs": []}
    for lines, values in ((["launch few_add_kernel<1> 1x1x1 32x1x1 0"], [step, step]), ([], [step]),
                          (["launch x 1x1x1 32x1x1 0"] * 2, [step])):
        with pytest.raises(ValueError):
            estimate.assign(lines, values)


def test_time_of_a_launch():
    """As long as the slower of its bytes and its operations take, with the share of the GPU that its blocks have."""
    assert estimate.seconds_of(3e9, 0, 132, 2e-6) == pytest.approx(1e-3 + 2e-6)
    assert estimate.seconds_of(3e9, 0, 66, 0) == pytest.approx(2e-3)
    assert estimate.seconds_of(3e6, 30e9, 1320, 0) == pytest.approx(1e-3)


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
