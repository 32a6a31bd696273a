"""torch_ops.py - every operation, live, against the PyTorch call that it mirrors.

    torch_ops.py DRIVER [--numerics NAME] [--quick] [--seed N] [--isa NAME] [--only NAME]

DRIVER is tests/kernels/ops_driver.  Without --numerics both are compared, each in a process of its
own that tells PyTorch which instructions to use.  Prints cases, elements and differing elements of
each operation, and closes with `N passed, N failed, N skipped`.
"""

import argparse
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "parity"))
import hosts  # noqa: E402
import reference  # noqa: E402


def run_both(args):
    """Each numerics in a child; returns the exit status."""
    totals = [0, 0, 0]
    for numerics in reference.NUMERICS:
        if reference.why_not(numerics):
            print(f"skip: {numerics}: {reference.why_not(numerics)}", flush=True)
            totals[2] += 1
            continue
        command = [sys.executable, __file__, args.driver, "--numerics", numerics,
                   "--seed", str(args.seed), "--isa", args.isa, "--only", args.only] + ["--quick"] * args.quick
        child = subprocess.Popen(command, env=reference.environment(numerics),
                                 stdout=subprocess.PIPE, text=True)
        last = ""
        for line in child.stdout:
            if not line.rstrip().endswith("skipped"):
                print(line, end="", flush=True)
            last = line
        if child.wait() not in (0, 1) or not last.rstrip().endswith("skipped"):
            print(f"{numerics}: the comparison ended with {child.returncode}")
            totals[1] += 1
            continue
        for i, word in enumerate(last.split(", ")):
            totals[i] += int(word.split()[0])
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if totals[1] else 0


parser = argparse.ArgumentParser()
parser.add_argument("driver")
parser.add_argument("--numerics", choices=reference.NUMERICS)
parser.add_argument("--quick", action="store_true")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--isa", default="best")
parser.add_argument("--only", default="", help="operations whose name has this")
args = parser.parse_args()
if not args.numerics:
    sys.exit(run_both(args))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from driver import Driver, differing  # noqa: E402
from transformers import LlamaConfig  # noqa: E402
from transformers import masking_utils as masking  # noqa: E402
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # noqa: E402
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402
from transformers.models.cohere2 import modeling_cohere2 as cohere2  # noqa: E402
from transformers.models.gemma import modeling_gemma as gemma  # noqa: E402
from transformers.models.glm4 import modeling_glm4 as glm4  # noqa: E402
from transformers.models.llama import modeling_llama as llama  # noqa: E402
from transformers.models.olmo2 import modeling_olmo2 as olmo2  # noqa: E402
from transformers.models.phi3 import modeling_phi3 as phi3  # noqa: E402

EVERY = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
BF16_WIDE = args.numerics == "torch-cpu/avx512_bf16"
rng = np.random.default_rng(args.seed)
torch.set_grad_enabled(False)


os.environ["TORCH_THREADS"] = str(torch.get_num_threads())
driver = Driver(args.driver, args.numerics, args.isa)


class Tally:
    def __init__(self, name):
        self.name, self.cases, self.elements, self.differing, self.first = name, 0, 0, 0, ""

    def check(self, label, want, got):
        n = differing(want.reshape(got.shape), got)
        self.cases += 1
        self.elements += got.numel()
        self.differing += n
        if n and not self.first:
            self.first = f"; first: {label}, {n} of {got.numel()}"

    def close(self):
        print(f"{args.numerics} {self.name}: {self.cases} cases, {self.elements} elements, "
              f"{self.differing} differing{self.first}", flush=True)
        return self.differing == 0 and self.cases > 0


def normal(*shape, scale=1.0):
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)).to(torch.bfloat16)


def wide(*shape):
    """All exponents around 1, zeros and denormals among them."""
    exponent = rng.integers(-30, 30, shape).astype(np.float32)
    x = rng.standard_normal(shape, dtype=np.float32) * np.exp2(exponent)
    x[rng.random(shape) < 0.02] = 0
    x[rng.random(shape) < 0.02] = 1e-39
    return torch.from_numpy(x.astype(np.float32)).to(torch.bfloat16)


def spoilt(*shape):
    """Some infinities and NaN."""
    x = normal(*shape)
    for value in (float("inf"), float("-inf"), float("nan"), 3e38, -3e38):
        x[torch.from_numpy(rng.random(shape) < 0.0004)] = value
    return x


def underflowing(*shape):
    """Zeros of both signs and the least denormals: sums of their products stand at -0."""
    every = torch.tensor([-0x7fff, -0x7fff, -0x8000, -0x8000, 0, 1], dtype=torch.int16).view(torch.bfloat16)
    x = every[torch.from_numpy(rng.integers(0, 6, shape))]
    x[..., : shape[-1] // 2] = every[torch.from_numpy(rng.integers(0, 4, shape[:-1] + (shape[-1] // 2,)))]
    return x


def pick(low, high):
    return int(rng.integers(low, high))


def times(n):
    return max(1, n // 10) if args.quick else n


# ---- one function an operation ------------------------------------------------------------------

def linear_case(tally, M, N, K, bias, rows=None, values=normal):
    x, w, b = values(M, K), values(N, K), values(N) if bias else None
    want = torch.nn.functional.linear(x, w, b)
    if rows:
        x, want = x[-rows:], want[-rows:]
    tensors = [("in", x), ("weight", w)] + ([("bias", b)] if bias else [])
    got = driver.run("linear", tensors, torch.bfloat16, [x.shape[0], N], tokens=M)
    tally.check(f"[{M}, {K}] x [{N}, {K}]{' + bias' if bias else ''}", want, got)


def check_linear(tally):
    for M, N, K in [(1, 896, 896), (1, 128, 896), (1, 4864, 896), (1, 896, 4864), (2, 896, 4864), (17, 896, 4864),
                    (5, 576, 576), (64, 192, 576), (1, 576, 1536), (3, 576, 1536), (47, 1536, 576), (1, 2048, 8192),
                    (300, 896, 896), (130, 256, 4864)]:
        linear_case(tally, M, N, K, False)
        linear_case(tally, M, N, K, True)
    for M in (2, 16, 33):
        linear_case(tally, M, 3000, 896, False, rows=min(M, 16))
        linear_case(tally, M, 896, 4864, False, rows=1)
    for i in range(times(300)):
        linear_case(tally, pick(1, 131), pick(22, 1201), pick(1, 2500), i % 2 == 0,
                    values=wide if i % 5 == 0 else normal)
    for _ in range(times(60)):
        linear_case(tally, pick(1, 20), pick(22, 400), pick(2500, 8193), False)
    for i in range(times(200)):  # small ones
        linear_case(tally, pick(1, 9), pick(2, 33), pick(1, 65), i % 2 == 0)


def attention_case(tally, op, T, L, G, repeat, D, values=normal):
    H = G * repeat
    kv = values(1, G, L, D)
    if op == "matmul_qk":
        q = values(1, T, H, D).transpose(1, 2)
        want = torch.matmul(q, llama.repeat_kv(kv, repeat).transpose(2, 3))[0]
        got = driver.run(op, [("in", q[0]), ("in", kv[0])], torch.bfloat16, [H, T, L], past=L - T, tokens=T)
    else:
        p = torch.softmax(values(1, H, T, L).float(), -1).to(torch.bfloat16)
        want = torch.matmul(p, llama.repeat_kv(kv, repeat)).transpose(1, 2).reshape(T, H * D)
        got = driver.run(op, [("in", p[0]), ("in", kv[0])], torch.bfloat16, [T, H * D], past=L - T, tokens=T)
    tally.check(f"T {T}, L {L}, {G} x {repeat} heads of {D}", want, got)


def attention_cases(tally, op):
    shapes = [(1, 7, 64), (2, 7, 64), (3, 3, 64), (4, 1, 64), (8, 2, 128), (2, 2, 80), (2, 4, 16), (1, 1, 32)]
    for G, repeat, D in shapes:
        for T, L in [(1, 1), (1, 2), (2, 2), (3, 3), (1, 8), (1, 17), (5, 5), (5, 12), (17, 17), (64, 64), (1, 65),
                     (2, 300), (1, 1000)]:
            attention_case(tally, op, T, L, G, repeat, D)
    for T, L in [(1, 1023), (1, 1024), (1, 1025), (2, 1025), (17, 1100), (1, 2049), (3, 2049), (1, 4100), (40, 1500)]:
        attention_case(tally, op, T, L, 2, 3, 64)
    for G, D in [(40, 128), (64, 128), (33, 128), (72, 64)]:  # more than 4096 multiplications, one key
        for _ in range(times(100)):
            attention_case(tally, op, 1, 1, G, 1, D)
    for _ in range(times(150)):
        T = pick(1, 70)
        attention_case(tally, op, T, T + pick(1, 400), pick(1, 5), pick(1, 5), 8 * pick(1, 17))


def check_matmul_qk(tally):
    attention_cases(tally, "matmul_qk")


def check_matmul_pv(tally):
    attention_cases(tally, "matmul_pv")


def sdpa_scope(T, past, window, padding):
    """What transformers would have for one sequence: its cache of keys, and the 2D mask that it was called with."""
    kept = min(past, window - 1) if window else past
    offset = past - kept
    attention_mask = torch.ones(1, past + T, dtype=torch.bool)
    attention_mask[:, :padding] = False
    return kept + T, offset, attention_mask


def sdpa_case(tally, T, past, G, repeat, D, window=0, padding=0, values=normal, spread=1.0,
              last=None):
    """As sdpa_attention_forward calls it: the mask is the one that transformers makes, or leaves out."""
    L, offset, attention_mask = sdpa_scope(T, past, window, padding)
    q, k, v = values(1, T, G * repeat, D).transpose(1, 2) * spread, values(1, G, L, D), (last or values)(1, G, L, D)
    overlay = masking.sliding_window_causal_mask_function(window) if window else masking.causal_mask_function
    mask = masking.sdpa_mask(1, T, L, past, offset, overlay, attention_mask if padding else None, window or None)
    module = SimpleNamespace(num_key_value_groups=repeat, is_causal=True)
    want, _ = sdpa_attention_forward(module, q, k, v, mask, scaling=D ** -0.5)
    got = driver.run("sdpa", [("in", q[0]), ("in", k[0]), ("in", v[0])], torch.bfloat16, [T, G * repeat * D],
                     past=past, tokens=T, by=D ** -0.5, window=window, padding=padding)
    tally.check(f"T {T}, past {past}, {G} x {repeat} heads of {D}, window {window}, padding {padding}",
                want[0].reshape(T, -1), got)


def check_sdpa(tally):
    lengths = [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 32, 33, 34, 35, 36, 64, 65, 66, 127, 191, 192, 193, 195, 300,
               511, 512, 513, 514, 515, 516, 520, 524, 600, 767, 768, 769, 800, 1023, 1025, 1030]
    heads = [(2, 7, 64), (3, 3, 64), (2, 2, 128), (2, 1, 80), (1, 4, 96), (2, 5, 16), (1, 2, 256), (1, 6, 200), (2, 2, 24)]
    for i, T in enumerate(lengths):
        for G, repeat, D in heads[i % 3::3] if T > 200 else heads:
            sdpa_case(tally, T, 0, G, repeat, D, spread=(1.0, 4.0, 30.0)[i % 3])
    for L in [2, 3, 4, 5, 11, 12, 13, 15, 16, 17, 31, 100, 509, 510, 511, 512, 513, 514, 520, 525, 1023, 1024, 1025, 1500, 2049, 4100]:
        for G, repeat, D in heads[:6]:
            sdpa_case(tally, 1, L - 1, G, repeat, D)
    for T, past in [(2, 1), (2, 40), (3, 5), (3, 600), (4, 4), (4, 507), (4, 508), (5, 508), (17, 23), (31, 512), (33, 600),
                    (64, 100), (65, 450), (200, 300), (193, 1500), (770, 40), (800, 1000)]:
        for G, repeat, D in heads[:3]:
            sdpa_case(tally, T, past, G, repeat, D)
    for T, past, padding in [(2, 0, 1), (3, 0, 1), (5, 0, 3), (21, 0, 7), (40, 0, 39), (64, 0, 33), (300, 0, 17), (530, 0, 520),
                            (800, 0, 9), (1, 20, 3), (1, 600, 513), (1, 1000, 999), (6, 30, 31), (70, 600, 514), (1030, 0, 600)]:
        for G, repeat, D in heads[:3]:
            sdpa_case(tally, T, past, G, repeat, D, padding=padding)
    for T, past, window, padding in [(5, 0, 6, 0), (5, 0, 5, 0), (5, 0, 4, 0), (5, 0, 1, 0), (1, 0, 1, 0), (1, 9, 1, 0), (1, 9, 4, 0),
                                    (1, 2, 4, 0), (1, 3, 4, 0), (1, 4, 4, 0), (3, 9, 4, 0), (64, 0, 64, 0), (64, 0, 65, 0),
                                    (300, 0, 100, 0), (800, 0, 700, 0), (1000, 0, 130, 0), (1, 2000, 700, 0), (40, 900, 600, 0),
                                    (1, 50, 20, 40), (1, 50, 20, 31), (1, 50, 20, 32), (30, 0, 8, 11), (4, 50, 20, 49),
                                    (900, 0, 64, 300)]:
        for G, repeat, D in heads[:3]:
            sdpa_case(tally, T, past, G, repeat, D, window=window, padding=padding)
    for T, past, window, padding in [(1, 3, 0, 0), (3, 0, 0, 0), (5, 2, 0, 0), (20, 0, 0, 0), (33, 0, 0, 0), (40, 500, 0, 0),
                                    (300, 0, 0, 0), (300, 0, 0, 11), (300, 0, 90, 0), (700, 0, 0, 0), (1, 700, 0, 0)]:
        for _ in range(times(20)):
            sdpa_case(tally, T, past, 1, 2, 32, window, padding, values=spoilt)
            if T > 3 or T + past <= 512:  # ops.h: the sign of a zero of few rows and many keys is not known
                sdpa_case(tally, T, past, 1, 2, 32, window, padding, last=underflowing, spread=100.0)
    for _ in range(times(300)):
        T = pick(1, 12) if pick(0, 3) == 0 else pick(1, 400)
        past = 0 if pick(0, 2) else pick(1, 900)
        window = pick(1, 2 * (T + past)) if pick(0, 3) == 0 else 0
        padding = pick(1, T + past) if pick(0, 4) == 0 and T + past > 1 else 0
        sdpa_case(tally, T, past, pick(2, 4), pick(1, 8), 8 * pick(2, 17), window, padding,
                  values=wide if pick(0, 8) == 0 else normal, spread=(1.0, 0.01, 8.0)[pick(0, 3)])


def check_softmax(tally):
    lengths = list(range(1, 301, 7 if args.quick else 1)) + [511, 512, 513, 1000, 1023, 1024, 1025, 2049, 3000, 4097]
    for L in lengths:
        for scale in (1.0, 12.0):
            x = normal(2, 9, L, scale=scale)
            x[0, :, rng.integers(0, L, max(1, L // 3))] = torch.finfo(torch.bfloat16).min
            x[1, 3] = torch.finfo(torch.bfloat16).min
            want = torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32).to(torch.bfloat16)
            got = driver.run("softmax", [("in", x)], torch.bfloat16, list(x.shape), past=L, tokens=9)
            tally.check(f"length {L}", want, got)


def check_log_softmax(tally):
    for n in [2, 7, 8, 15, 16, 17, 100, 1000, 2047, 2049, 32000, 49152, 128256, 151936]:
        x = normal(3, n, scale=4.0)
        got = driver.run("log_softmax", [("in", x)], torch.float32, [3, n])
        tally.check(f"length {n}", torch.log_softmax(x.float(), dim=-1), got)


def check_rms_norm(tally):
    for n in [7, 8, 31, 64, 80, 100, 128, 512, 576, 896, 1024, 1536, 2048, 3072, 4095, 4096, 8192, 16384]:
        for eps in (1e-6, 1e-5):
            for rows in (1, 2, 17, 64):
                norm = llama.LlamaRMSNorm(n, eps=eps).to(torch.bfloat16)
                x, w = (wide if rows == 17 else normal)(rows, n), normal(n)
                x[0] = 0
                norm.weight.copy_(w)
                got = driver.run("rms_norm", [("in", x), ("weight", w)], torch.bfloat16, [rows, n], tokens=rows, eps=eps)
                tally.check(f"[{rows}, {n}] eps {eps}", norm(x), got)
    for D in (64, 128):
        norm = llama.LlamaRMSNorm(D, eps=1e-6).to(torch.bfloat16)
        x, w = normal(9, 5 * D), normal(D)
        norm.weight.copy_(w)
        got = driver.run("rms_norm", [("in", x), ("weight", w)], torch.bfloat16, [9, 5, D], tokens=9, eps=1e-6, width=D)
        tally.check(f"heads of {D}", norm(x.view(9, 5, D)), got)


def check_rms_norm_weight(tally):
    """Weights that are multiplied before the one rounding: OLMo 2's, and Gemma's 1 + weight."""
    for part, kind in ((1, olmo2.Olmo2RMSNorm), (2, gemma.GemmaRMSNorm)):
        for n in [7, 8, 64, 100, 256, 896, 2048, 2304, 3072, 4096]:
            for rows in (1, 17, 64):
                norm = kind(n, eps=1e-6).to(torch.bfloat16)
                x, w = (wide if rows == 17 else normal)(rows, n), normal(n, scale=0.3)
                norm.weight.copy_(w)
                got = driver.run("rms_norm", [("in", x), ("weight", w)], torch.bfloat16, [rows, n], tokens=rows, eps=1e-6,
                                 part=part)
                tally.check(f"{kind.__name__} [{rows}, {n}]", norm(x), got)


ROPES = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"]  # enum rope_type


def longrope_factors(dim):
    return [[1 + i % 5 / 7 + long for i in range(dim // 2)] for long in (0, 1)]


def rope_config(kind, theta, dim, factor=1.0, low=1.0, high=4.0, original=8192, **more):
    rope = {"rope_type": kind, "rope_theta": theta, **more}
    if kind != "default":
        rope["factor"] = factor
    if kind in ("llama3", "yarn", "longrope"):
        rope["original_max_position_embeddings"] = original
    if kind == "llama3":
        rope.update(low_freq_factor=low, high_freq_factor=high)
    if kind == "longrope":
        rope.update(zip(("short_factor", "long_factor"), longrope_factors(dim)))
    logging.getLogger("transformers").setLevel(logging.ERROR)  # it warns of factors that are not the lengths' ratio
    return LlamaConfig(hidden_size=dim * 2, num_attention_heads=2, head_dim=dim, rope_parameters=rope,
                       max_position_embeddings=131072)


def check_inv_freq(tally):
    kinds = [("default", 1.0), ("linear", 2.0), ("linear", 3.7), ("llama3", 8.0), ("llama3", 32.0), ("dynamic", 2.0),
             ("dynamic", 3.3), ("yarn", 4.0), ("yarn", 2.5), ("yarn", 40.0), ("longrope", 32.0)]
    for kind, factor in kinds:
        for theta in (10000.0, 100000.0, 500000.0, 1000000.0, 5000000.0):
            for dim in (2, 16, 32, 48, 64, 80, 96, 128, 160, 256):
                if dim > 2 or kind not in ("dynamic", "yarn"):
                    check_frequencies(tally, kind, factor, theta, dim)


def check_frequencies(tally, kind, factor, theta, dim):
    betas = {"beta_fast": 24, "beta_slow": 2, "truncate": False} if kind == "yarn" and factor == 40.0 else {}
    config = rope_config(kind, theta, dim, factor, **betas)
    rotary = llama.LlamaRotaryEmbedding(config)
    factors = sum(longrope_factors(dim), []) if kind == "longrope" else []
    # a call's length decides for two kinds; PyTorch is asked through the module, as a model asks it
    lengths = [1] + ([131072, 131073, 150001, 400000] if kind in ("dynamic", "longrope") else [])
    for length in lengths:
        rotary(torch.zeros(1), torch.tensor([[length - 1]]))
        more = torch.tensor([1.0, 4.0, 8192.0, betas.get("beta_fast", 32), betas.get("beta_slow", 1),
                             betas.get("truncate", True), 131072.0, length, *factors])
        got = driver.run("inv_freq", [("in", more)], torch.float32, [dim // 2], past=ROPES.index(kind), tokens=dim,
                         eps=theta, by=factor)
        tally.check(f"{kind} {factor}, theta {theta}, dim {dim}, length {length}", rotary.inv_freq.float(), got)


def layer_norm_case(tally, label, x, w, b, eps):
    got = driver.run("layer_norm", [("in", x), ("weight", w), ("bias", b)], torch.bfloat16, list(x.shape),
                     tokens=x.shape[0], eps=eps)
    tally.check(label, torch.nn.functional.layer_norm(x, x.shape[1:], w, b, eps), got)


def check_layer_norm(tally):
    """Plain rows; rows whose eps leaves 2^-15 of the variance, or whose mean is far, so that its last bits show; and
    biases that take nearly all away, which shows what is fused."""
    for n in [7, 13, 15, 16, 20, 33, 40, 100, 256, 272, 300, 520, 1000, 1031, 2048, 2560, 4100, 8192]:
        one, zero = torch.ones(n).to(torch.bfloat16), torch.zeros(n).to(torch.bfloat16)
        for i in range(times(10)):
            w, b = normal(n), normal(n)
            layer_norm_case(tally, f"rows of {n}", (wide if i % 2 else normal)(17, n), w, b, 1e-5)
            row = normal(1, n)
            turned = torch.cat([row.roll(7 * k, 1) for k in range(9)])
            layer_norm_case(tally, f"rows of {n}, variance", turned, one, zero,
                            -float(row.double().var(unbiased=False)) * (1 - 2**-15))
            layer_norm_case(tally, f"rows of {n}, mean", normal(9, n, scale=0.02) + 100 * i, one, zero, 1e-5)
            near = torch.nn.functional.layer_norm(row[0].double(), (n,), w.double(), None, 1e-5)
            layer_norm_case(tally, f"rows of {n}, bias", row, w, -near.to(torch.bfloat16), 1e-5)


def check_rotary(tally):
    scaled = [(1000000.0, "yarn", factor) for factor in (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 16.0, 32.0, 40.0, 64.0)]
    for theta, kind, factor in [(10000.0, "default", 1.0), (500000.0, "llama3", 8.0), (1000000.0, "default", 1.0), *scaled]:
        rotary = llama.LlamaRotaryEmbedding(rope_config(kind, theta, 64 if theta < 1e5 else 128, factor))
        D = rotary.inv_freq.numel() * 2
        step = 16384
        for first in range(0, 131072, step * (4 if args.quick else 1)):
            positions = torch.arange(first, first + step)
            want = rotary(torch.zeros(1, dtype=torch.bfloat16), positions[None])
            for part in (0, 1):
                got = driver.run("rotary", [("in", positions), ("inv_freq", rotary.inv_freq)], torch.bfloat16,
                                 [step, D], tokens=step, part=part, by=rotary.attention_scaling)
                tally.check(f"{kind} {factor}, theta {theta}, positions from {first}", want[part][0], got)


def check_rope(tally):
    for T, n, D in [(1, 14, 64), (5, 2, 64), (17, 4, 128), (64, 3, 16), (3, 1, 2)]:
        for rank in (2, 3):
            x, cos, sin = normal(1, T, n, D), normal(1, T, D), normal(1, T, D)
            want, _ = llama.apply_rotary_pos_emb(x.transpose(1, 2), x.transpose(1, 2), cos, sin)
            given = x[0] if rank == 3 else x[0].reshape(T, n * D)
            got = driver.run("rope", [("in", given), ("in", cos[0]), ("in", sin[0])], torch.bfloat16, [n, T, D],
                             tokens=T, width=D)
            tally.check(f"[{T}, {n}, {D}]", want[0], got)


def check_rope_as(tally):
    """GLM's pairs of neighbours in a part of the head, Cohere's in f32 with a table of its own, Phi's part of halves."""
    for T, n, D, R in [(1, 14, 64, 32), (5, 2, 64, 64), (17, 4, 128, 64), (64, 3, 16, 12), (3, 1, 4, 2)]:
        x, half = normal(1, T, n, D), [normal(1, T, R // 2) for _ in range(2)]
        q = x.transpose(1, 2)
        for name, (cos, sin), want, attributes in [
                ("glm4", [torch.cat((h, h), -1) for h in half], lambda *a: glm4.apply_rotary_pos_emb(q, q, *a)[0], {"pairs": 1}),
                ("phi3", [torch.cat((h, h), -1) for h in half], lambda *a: phi3.apply_rotary_pos_emb(q, q, *a)[0], {}),
                ("cohere2", [h.repeat_interleave(2, -1) for h in half],
                 lambda *a: cohere2.apply_rotary_pos_emb(q, q, *a)[0], {"pairs": 1, "table": 1, "apply": 1})]:
            if name == "cohere2" and R != D:
                continue
            got = driver.run("rope", [("in", x[0].reshape(T, n * D)), ("in", cos[0]), ("in", sin[0])], torch.bfloat16,
                             [n, T, D], tokens=T, width=D, **attributes)
            tally.check(f"{name} [{T}, {n}, {D}], {R} turned", want(cos, sin)[0], got)


def check_embedding(tally):
    for T in (1, 5, 64):
        tokens, w = torch.from_numpy(rng.integers(0, 500, T)), normal(500, 333)
        got = driver.run("embedding", [("in", tokens), ("weight", w)], torch.bfloat16, [T, 333], tokens=T)
        tally.check(f"{T} tokens", torch.nn.functional.embedding(tokens, w), got)
        for by in (2048 ** 0.5, 2304 ** 0.5, 3072 ** 0.5):
            scaled = gemma.GemmaTextScaledWordEmbedding(500, 333, 0, embed_scale=by).to(torch.bfloat16)
            scaled.weight.copy_(w)
            got = driver.run("embedding", [("in", tokens), ("weight", w)], torch.bfloat16, [T, 333], tokens=T, by=by)
            tally.check(f"{T} tokens by {by}", scaled(tokens), got)


def check_cache_append(tally):
    for T in (1, 5, 64):
        x = normal(3, T, 16)
        got = driver.run("cache_append", [("in", x)], torch.bfloat16, [3, T, 16], tokens=T, width=16)
        tally.check(f"{T} tokens", torch.cat([normal(3, 0, 16), x], dim=-2), got)


def check_scale(tally):
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    for by in (64 ** -0.5, 128 ** -0.5, 80 ** -0.5, 0.0625, 1.0):
        got = driver.run("scale", [("in", every)], torch.bfloat16, [65536], by=by)
        tally.check(f"by {by}", every * by, got)


def check_divide(tally):
    for by in (8.0, 30.0, 50.0, 20.0, 13.7):
        got = driver.run("divide", [("in", EVERY)], torch.bfloat16, [65536], by=by)
        tally.check(f"by {by}", EVERY / by, got)


def check_tanh(tally):
    """Of any length: what is left over by whole vectors goes the same way."""
    for shape in [(65536,), (65535,), (2, 4, 7, 1170), (13,), (1,)]:
        x = EVERY[: int(np.prod(shape))].reshape(shape)
        tally.check(f"{shape}", torch.tanh(x), driver.run("tanh", [("in", x)], torch.bfloat16, list(shape)))


def check_slice(tally):
    for T, width, before, count, pieces in [(1, 4, 0, 2, 1), (5, 16, 1, 3, 4), (17, 3, 2, 1, 2)]:
        x = normal(T, pieces * (before + count + 1) * width)
        want = x.view(T, pieces, -1)[..., before * width:(before + count) * width].reshape(T, -1)
        got = driver.run("slice", [("in", x)], torch.bfloat16, list(want.shape), tokens=T, width=width, before=before,
                         count=count, pieces=pieces)
        tally.check(f"{before} + {count} of {width}, {pieces} pieces", want, got)


def check_causal_mask(tally):
    lowest = torch.finfo(torch.bfloat16).min
    for T, L, window, padding in [(1, 1, 0, 0), (1, 9, 0, 0), (5, 5, 0, 0), (7, 30, 0, 0), (64, 64, 0, 0), (64, 64, 10, 0),
                                 (3, 20, 5, 0), (1, 9, 0, 4), (5, 5, 0, 3), (64, 64, 10, 30), (3, 20, 5, 19)]:
        x = normal(4, T, L, scale=5.0)
        query, key = torch.arange(L - T, L)[:, None], torch.arange(L)[None]
        seen = (key <= query) & (key >= padding) & ((query - key < window) if window else torch.ones(T, L, dtype=torch.bool))
        mask = torch.where(seen, torch.tensor(0.0, dtype=torch.bfloat16), torch.tensor(lowest, dtype=torch.bfloat16))
        got = driver.run("causal_mask", [("in", x)], torch.bfloat16, [4, T, L], past=L - T, tokens=T, window=window,
                         padding=padding)
        tally.check(f"T {T}, L {L}, window {window}, padding {padding}", x + mask, got)


def elementwise(tally, op, torch_op):
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    for i in range(times(40)):
        other = every[torch.from_numpy(rng.permutation(65536))]
        tally.check(f"round {i}", torch_op(every, other),
                    driver.run(op, [("in", every), ("in", other)], torch.bfloat16, [65536]))


def check_add(tally):
    elementwise(tally, "add", torch.add)


def check_mul(tally):
    elementwise(tally, "mul", torch.mul)


def check_silu(tally):
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    for n in (65536, 65535, 13):
        tally.check(f"{n} inputs", torch.nn.functional.silu(every[:n]),
                    driver.run("silu", [("in", every[:n])], torch.bfloat16, [n]))


def check_gelu_tanh(tally):
    """On one thread, as the contract says: each of more would leave elements of its own over."""
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for T, n in [(1, 65536), (4, 16384), (1, 65535), (1, 13), (1, 1)]:
        x = every[: T * n].reshape(T, n)
        tally.check(f"[{T}, {n}] inputs", torch.nn.functional.gelu(x, approximate="tanh"),
                    driver.run("gelu_tanh", [("in", x)], torch.bfloat16, [T, n], tokens=T))
    for T, n, first in [(1, 33, 0), (3, 65, 0), (3, 176, 2), (5, 1001, 3), (17, 100, 0), (17, 40, 16), (64, 9, 1), (2, 4096, 1)]:
        for _ in range(times(40)):
            x = every[torch.from_numpy(rng.integers(0xc0a0, 0xc0a8, (T, n)))]
            tally.check(f"[{T}, {n}] from {first}", torch.nn.functional.gelu(x, approximate="tanh")[first:],
                        driver.run("gelu_tanh", [("in", x[first:])], torch.bfloat16, [T - first, n], tokens=T, row=first))
    torch.set_num_threads(threads)


def main():
    passed = failed = 0
    checks = [(name[6:], fn) for name, fn in globals().items() if name.startswith("check_") and args.only in name]
    if "sdpa" not in hosts.attentions(args.numerics):
        checks = [(name, fn) for name, fn in checks if fn is not check_sdpa]
    print(f"{args.numerics}: torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, seed {args.seed}")
    for name, fn in checks:
        tally = Tally(name)
        fn(tally)
        if tally.close():
            passed += 1
        else:
            failed += 1
    driver.process.stdin.close()
    failed += driver.process.wait() != 0
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
