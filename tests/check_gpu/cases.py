"""Cases of torch-cuda's operations, each against the PyTorch call that it mirrors, called as transformers calls it."""
import os

import driver
import numpy as np
import report
import torch
from transformers import LlamaConfig
from transformers.models.llama import modeling_llama as llama

BF16 = torch.bfloat16
EVERY = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(BF16)


class Tally:
    """The cases of one operation: they run on PyTorch's device and through the driver."""

    def __init__(self, settings, numerics="torch-cuda"):
        self.at, self.small = settings.device, settings.emulated
        self.driver = driver.Driver(os.path.join(settings.build, "tests/kernels/ops_driver"), numerics, device="cuda:0")
        self.rng = np.random.default_rng(1)
        self.cases = self.elements = self.differing = 0
        self.first = ""

    def normal(self, *shape, scale=1.0):
        """On the host."""
        return torch.from_numpy(self.rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)).to(BF16)

    def take(self, sizes, few):
        """All on a GPU; the emulator gets few."""
        return sizes[:few] if self.small else sizes

    def check(self, label, want, op, tensors, shape, **attributes):
        got = self.driver.run(op, tensors, BF16, shape, **attributes)
        n = driver.differing(want.cpu().reshape(got.shape), got)
        self.cases, self.elements, self.differing = self.cases + 1, self.elements + got.numel(), self.differing + n
        if n and not self.first:
            self.first = f"; first: {label}, {n} of {got.numel()}"


def rms_norm(t):
    for n in t.take([64, 128, 576, 896, 2048], 2):
        for rows in t.take([1, 2, 37, 64, 128, 600], 3):
            norm = llama.LlamaRMSNorm(n, eps=1e-6).to(BF16)
            x, w = t.normal(1, rows, n), t.normal(n)
            norm.weight.copy_(w)
            t.check(f"{rows} x {n}", norm.to(t.at)(x.to(t.at)), "rms_norm", [("in", x[0]), ("weight", w)], [rows, n],
                    tokens=rows, eps=1e-6)


def softmax(t):
    for L in t.take([1, 5, 33, 64, 777, 1024, 1025, 2048, 2049, 3072, 9217, 9220, 12256], 3):
        for H, T in t.take([(9, 1), (14, 2), (2, 37)], 2):
            x = t.normal(1, H, T, L, scale=3.0)
            want = torch.nn.functional.softmax(x.to(t.at), dim=-1, dtype=torch.float32).to(BF16)
            t.check(f"[{H}, {T}, {L}]", want, "softmax", [("in", x[0])], [H, T, L], past=max(0, L - T), tokens=T)


def silu(t):
    t.check("every input", torch.nn.functional.silu(EVERY.to(t.at)), "silu", [("in", EVERY)], [65536])


def gelu_tanh(t):
    x = EVERY.reshape(16, 4096)
    t.check("every input", torch.nn.functional.gelu(x.to(t.at), approximate="tanh"), "gelu_tanh", [("in", x)], [16, 4096], tokens=16)


def add(t):
    pair(t, "add", torch.add)


def mul(t):
    pair(t, "mul", torch.mul)


def pair(t, op, function):
    other = EVERY[torch.from_numpy(t.rng.permutation(65536))]
    t.check("every input", function(EVERY.to(t.at), other.to(t.at)), op, [("in", EVERY), ("in", other)], [65536])


def scale(t):
    for D in (64, 128):
        t.check(f"by {D} ** -0.5", EVERY.to(t.at) * D ** -0.5, "scale", [("in", EVERY)], [65536], by=D ** -0.5)


def rotary_module(theta, D):
    rope = {"rope_type": "default", "rope_theta": theta}
    return llama.LlamaRotaryEmbedding(LlamaConfig(hidden_size=2 * D, num_attention_heads=2, head_dim=D,
                                                  rope_parameters=rope, max_position_embeddings=131072))


def rotary(t):
    for theta, D in [(1e4, 64), (1e6, 128)]:
        module = rotary_module(theta, D)
        inv_freq = module.inv_freq.clone()
        module = module.to(t.at)
        for first, T in t.take([(0, 1), (0, 2), (5, 37), (0, 4096), (100000, 2048)], 3):
            positions = torch.arange(first, first + T)
            want = module(torch.zeros(1, dtype=BF16, device=t.at), positions[None].to(t.at))
            for part in (0, 1):
                t.check(f"theta {theta}, {T} from {first}, part {part}", want[part][0], "rotary",
                        [("in", positions), ("inv_freq", inv_freq)], [T, D], past=first, tokens=T, part=part)


def rope(t):
    for T, n, D in [(1, 14, 64), (2, 2, 64), (37, 9, 64), (64, 3, 128)]:
        x, cos, sin = t.normal(1, T, n, D), t.normal(1, T, D), t.normal(1, T, D)
        view = x.to(t.at).transpose(1, 2)
        want, _ = llama.apply_rotary_pos_emb(view, view, cos.to(t.at), sin.to(t.at))
        t.check(f"[{T}, {n}, {D}]", want[0], "rope", [("in", x[0]), ("in", cos[0]), ("in", sin[0])], [n, T, D],
                tokens=T, width=D)


def linear_case(t, M, N, K, bias, x=None, w=None):
    """Returns what PyTorch gave, for whoever asks again.  x, w: on the host, random if None."""
    x = t.normal(1, M, K) if x is None else x
    w = t.normal(N, K, scale=K ** -0.5) if w is None else w
    b = t.normal(N) if bias else None
    want = torch.nn.functional.linear(x.to(t.at), w.to(t.at), None if b is None else b.to(t.at))
    t.check(f"[{M}, {K}] x [{N}, {K}]{' + bias' if bias else ''}", want, "linear",
            [("in", x[0]), ("weight", w)] + ([("bias", b)] if bias else []), [M, N], tokens=M)


def linear(t):
    for M in t.take([1, 2, 5, 17, 37, 64, 128, 300], 3):
        for N, K in t.take([(64, 64), (128, 896), (576, 1536), (1000, 72)], 2):
            linear_case(t, M, N, K, False)
            linear_case(t, M, N, K, True)


def attention(t):
    shapes = t.take([(2, 7, 64), (3, 3, 64), (4, 1, 64), (8, 2, 128)], 2)
    calls = t.take([(1, 1), (2, 2), (5, 5), (37, 37), (64, 64), (1, 38), (1, 300), (5, 70), (1, 2049)], 3)
    return [(T, L, G, repeat, D) for G, repeat, D in shapes for T, L in calls]


def matmul_qk(t):
    for T, L, G, repeat, D in attention(t):
        q, k = t.normal(1, T, G * repeat, D).to(t.at).transpose(1, 2), t.normal(1, G, L, D)
        want = torch.matmul(q, llama.repeat_kv(k.to(t.at), repeat).transpose(2, 3))
        t.check(f"T {T}, L {L}, {G} x {repeat} of {D}", want, "matmul_qk", [("in", q[0].cpu()), ("in", k[0])],
                [G * repeat, T, L], past=L - T, tokens=T)


def matmul_pv(t):
    for T, L, G, repeat, D in attention(t):
        p = torch.softmax(t.normal(1, G * repeat, T, L).float(), -1).to(BF16)
        v = t.normal(1, G, L, D)
        c = torch.matmul(p.to(t.at), llama.repeat_kv(v.to(t.at), repeat))
        t.check(f"T {T}, L {L}, {G} x {repeat} of {D}", c.transpose(1, 2).reshape(T, G * repeat * D), "matmul_pv",
                [("in", p[0]), ("in", v[0])], [T, G * repeat * D], past=L - T, tokens=T)


CHECKS = {f.__name__: f for f in (rms_norm, softmax, silu, gelu_tanh, add, mul, scale, rotary, rope, linear, matmul_qk, matmul_pv)}


def run(settings, name, check):
    """The row of one operation, with a driver of its own."""
    tally = Tally(settings)
    with torch.inference_mode():
        check(tally)
    status = tally.driver.close()
    if status:
        raise RuntimeError(f"ops_driver ended with status {status}")
    return report.compared("ops", f"torch-cuda {name}", tally.differing, tally.elements, f"{tally.cases} cases{tally.first}",
                           promised=settings.promised())
