"""A port of Qwen2 and its kin to numpy, as someone writes one, with mistakes that a switch plants.

    port = Port(folder, "f32", faults=("wrong_eps",), layers=(1,))
    values = port.run(tokens, fed=[5, 17])      # fed: tokens of cached decode steps

dtype: "f32", "bf16" (rounded after every operation, as PyTorch does) or "f64".  faults: names in FAULTS; they are made in
`layers` (None: in all, and outside of the layers).  Values have the names of transformers' modules, "step_1/..." for decode.
"""
import json
import math
import os

import ml_dtypes
import numpy as np

LOW = {"f32": np.finfo(np.float32).min, "bf16": float(ml_dtypes.finfo(ml_dtypes.bfloat16).min), "f64": -3.3895313892515355e38}


def bf16(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def f16(x):
    return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)


def tf32(x):
    """Ten bits behind the point, to nearest even."""
    u = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0xfff + (u >> 13 & 1)) & 0xffffe000).astype(np.uint32).view(np.float32)


def int8(w):
    step = np.abs(w).max(-1, keepdims=True) / 127
    return (np.round(w / np.where(step == 0, 1, step)) * step).astype(np.float32)


def read_safetensors(folder):
    """name -> f32 array, of every shard."""
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, name), "rb") as f:
            data = f.read()
        size = int.from_bytes(data[:8], "little")
        types = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
        for key, e in json.loads(data[8:8 + size]).items():
            if key != "__metadata__":
                begin, end = (8 + size + x for x in e["data_offsets"])
                tensors[key] = np.frombuffer(data[begin:end], types[e["dtype"]]).astype(np.float32).reshape(e["shape"])
    return tensors


class Port:
    def __init__(self, folder, dtype="f32", faults=(), layers=None):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            c = json.load(f)
        self.dtype, self.faults, self.layers = dtype, tuple(faults), layers
        assert set(self.faults) <= set(FAULTS), self.faults
        self.type = np.float64 if dtype == "f64" else np.float32
        self.w = {k: bf16(v).astype(self.type) for k, v in read_safetensors(folder).items()}
        self.n = c["num_hidden_layers"]
        self.heads = c["num_attention_heads"]
        self.kv = c.get("num_key_value_heads") or self.heads
        self.width = c.get("head_dim") or c["hidden_size"] // self.heads
        self.eps = c["rms_norm_eps"]
        self.theta = (c.get("rope_parameters") or {}).get("rope_theta") or c.get("rope_theta") or 10000.0
        self.tied = c.get("tie_word_embeddings", False)
        self.layer = -1

    def has(self, fault):
        return fault in self.faults and (self.layers is None or self.layer in self.layers or self.layer < 0)

    # ---- operations; r() is the rounding of what an operation gives ----

    def r(self, x):
        return bf16(x) if self.dtype == "bf16" else np.asarray(x, self.type)

    def norm(self, x, name, eps=None):
        w, eps = self.w[name + ".weight"], self.eps if eps is None else eps
        if self.has("norm_eps"):
            eps = 1e-5 if self.eps < 5e-6 else 1e-6
        y = x - x.mean(-1, keepdims=True) if self.has("norm_mean") else x
        square = (y * y).mean(-1, keepdims=True, dtype=self.type)
        scale = 1 / np.sqrt(square + self.type(eps))
        if self.has("norm_eps_outside"):
            scale = 1 / (np.sqrt(square) + self.type(eps))
        if self.has("norm_bf16"):
            y = bf16(x)
            square = bf16(bf16(y * y).mean(-1, keepdims=True))
            return self.r(bf16(w * bf16(y * bf16(1 / np.sqrt(bf16(square + eps))))))
        if self.has("norm_one_plus"):
            w = 1 + w
        if self.has("norm_no_weight"):
            w = 1
        return self.r(w * self.r(y * scale))

    def linear(self, x, name, w=None):
        w = self.w[name + ".weight"] if w is None else w
        kind = name.rsplit(".", 1)[-1]
        if self.has(f"{kind}_transposed") and w.shape[0] == w.shape[1]:
            w = w.T
        if self.has(f"{kind}_int8"):
            w = int8(w)
        if self.has(f"{kind}_tf32"):
            return self.r(tf32(x) @ tf32(w).T)
        if self.has(f"{kind}_f16"):
            return self.r(f16(x) @ f16(w).T)
        if self.has(f"{kind}_bf16_sums"):
            total = np.zeros((len(x), len(w)), np.float32)
            for k in range(w.shape[1]):
                total = bf16(total + np.float32(x[:, k:k + 1] * w[:, k]))
            return self.r(total)
        y = x @ w.T
        b = self.w.get(name + ".bias")
        if b is not None:
            y = y + b * {True: 0, False: 2 if self.has("bias_twice") else 1}[self.has("bias_missing")]
        return self.r(y)

    def tables(self, positions):
        theta = 1e6 if self.has("theta") and self.theta != 1e6 else 500.0 if self.has("theta") else self.theta
        inv = (1 / theta ** (np.arange(0, self.width, 2, dtype=np.float32) / self.width)).astype(np.float32)
        if self.has("inv_freq_bf16"):
            inv = bf16(inv)
        if self.has("position_plus_one"):
            positions = positions + 1
        angle = (positions[:, None].astype(np.float32) * (inv / 2 if self.has("rope_scaled") else inv)).astype(self.type)
        if self.has("angles_bf16"):
            angle = bf16(angle).astype(self.type)
        angle = np.concatenate([angle, angle], -1)
        cos, sin = np.cos(angle), np.sin(angle)
        return self.r(cos), self.r(-sin if self.has("sin_sign") else sin)

    def rope(self, x, cos, sin):
        """[T, n, D] -> [n, T, D]"""
        x, half = x.transpose(1, 0, 2), self.width // 2
        if self.has("rope_pairs"):
            turned = np.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
            cos, sin = (np.repeat(t[:, :half], 2, -1) for t in (cos, sin))
        else:
            turned = np.concatenate([-x[..., half:], x[..., :half]], -1)
        return self.r(self.r(x * cos) + self.r(turned * sin))

    def softmax(self, x):
        if self.has("softmax_bf16"):
            e = bf16(np.exp(bf16(x - x.max(-1, keepdims=True))))
            return self.r(bf16(e / bf16(e.sum(-1, keepdims=True))))
        axis = -2 if self.has("softmax_axis") else -1
        e = np.exp(x - x.max(axis, keepdims=True))
        return self.r(e / e.sum(axis, keepdims=True))

    def act(self, x):
        x64 = x.astype(np.float64)
        if self.has("act_relu"):
            return self.r(np.maximum(x, 0))
        if self.has("act_gelu_tanh"):
            return self.r((0.5 * x64 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x64 + 0.044715 * x64 ** 3)))).astype(self.type))
        if self.has("act_gelu"):
            return self.r((0.5 * x64 * (1 + np.vectorize(math.erf)(x64 / math.sqrt(2)))).astype(self.type))
        return self.r(x / (1 + np.exp(-x)))

    # ---- the model ----

    def attention(self, x, p, cos, sin, cache, out):
        names = dict(q="q_proj", k="k_proj", v="v_proj")
        if self.has("qk_swapped") and self.heads == self.kv:
            names["q"], names["k"] = names["k"], names["q"]
        q, k, v = (self.linear(x, p + "self_attn." + names[n]) for n in "qkv")
        if self.has("weights_of_next_layer"):
            other = p.replace(f".{self.layer}.", f".{(self.layer + 1) % self.n}.")
            q = self.linear(x, other + "self_attn.q_proj")
        out |= {p + "self_attn.q_proj": q, p + "self_attn.k_proj": k, p + "self_attn.v_proj": v}
        q, k, v = (a.reshape(len(x), -1, self.width) for a in (q, k, v))
        if p + "self_attn.q_norm.weight" in self.w:
            q, k = (self.norm(a, p + f"self_attn.{n}_norm") for a, n in ((q, "q"), (k, "k")))
            out |= {p + "self_attn.q_norm": q, p + "self_attn.k_norm": k}
        q, k = self.rope(q, cos, sin), self.rope(k, cos, sin)
        v = self.rope(v, cos, sin) if self.has("v_rotated") else v.transpose(1, 0, 2)
        out |= {p + "self_attn.q_rope": q, p + "self_attn.k_rope": k}
        if p in cache:
            old_k, old_v = cache[p]
            if self.has("cache_shifted"):
                old_k = np.roll(old_k, 1, axis=1)
            k, v = np.concatenate([old_k, k], 1), np.concatenate([old_v, v], 1)
        cache[p] = k, v
        out |= {p + "self_attn.keys": k, p + "self_attn.values": v}
        group = self.heads // self.kv
        spread = (lambda a: np.tile(a, (group, 1, 1))) if self.has("kv_tiled") else (lambda a: np.repeat(a, group, 0))
        scores = self.r(q @ spread(k).transpose(0, 2, 1))
        scale = self.type(self.width ** -0.5)
        scale = scale * scale if self.has("scale_twice") else self.type(1) if self.has("scale_missing") else scale
        if self.has("scale_wrong_width"):
            scale = self.type((self.heads * self.width) ** -0.5)
        scaled = self.r(scores * scale)
        T, L = scaled.shape[1:]
        offset = L - T + (1 if self.has("mask_off_by_one") else 0)
        hidden = np.arange(L)[None, :] > np.arange(T)[:, None] + offset
        if self.has("mask_upside_down"):
            hidden = np.arange(L)[None, :] < np.arange(T)[:, None] + L - T
        if self.has("mask_missing"):
            hidden[:] = False
        masked = np.where(hidden, self.type(-10 if self.has("mask_small") else LOW[self.dtype]), scaled)
        weights = self.softmax(masked)
        context = self.r((weights @ spread(v)).transpose(1, 0, 2).reshape(T, -1))
        out |= {p + "self_attn.scores": scores, p + "self_attn.scaled": scaled, p + "self_attn.masked": masked,
                p + "self_attn.weights": weights, p + "self_attn.context": context}
        return self.linear(context, p + "self_attn.o_proj")

    def block(self, x, layer, cos, sin, cache, out):
        self.layer, p = layer, f"model.layers.{layer}."
        normed = self.norm(x, p + "input_layernorm")
        out[p + "input_layernorm"] = normed
        o = self.attention(normed, p, cos, sin, cache, out)
        residual = self.r((normed if self.has("residual_after_norm") else 0 if self.has("residual_missing") else x) + o)
        normed = self.norm(residual, p + "post_attention_layernorm")
        names = ("up_proj", "gate_proj") if self.has("gate_up_swapped") else ("gate_proj", "up_proj")
        gate, up = (self.linear(normed, p + "mlp." + n) for n in names)
        act = self.act(gate)
        product = self.r(act * up)
        down = self.linear(product, p + "mlp.down_proj")
        out |= {p + "self_attn.o_proj": o, p + "attn_residual": residual, p + "post_attention_layernorm": normed,
                p + "mlp.gate_proj": gate, p + "mlp.up_proj": up, p + "mlp.act_fn": act, p + "mlp.product": product,
                p + "mlp.down_proj": down, p[:-1]: self.r(residual + down)}
        self.layer = -1
        return out[p[:-1]]

    def forward(self, tokens, past, cache):
        out, positions = {}, np.arange(past, past + len(tokens))
        if self.has("position_stays") and past:
            positions = positions - 1
        x = self.w["model.embed_tokens.weight"][tokens]
        if self.has("embedding_scaled"):
            x = self.r(x * self.type(math.sqrt(x.shape[1])))
        cos, sin = self.tables(positions)
        out |= {"model.embed_tokens": x, "model.rotary_emb.cos": cos, "model.rotary_emb.sin": sin}
        for layer in range(self.n):
            x = self.block(x, layer, cos, sin, cache, out)
        normed = x if self.has("final_norm_skipped") else self.norm(x, "model.norm")
        if self.has("final_norm_twice"):
            normed = self.norm(normed, "model.norm")
        head = "model.embed_tokens" if self.tied or self.has("head_tied") else "lm_head"
        logits = self.linear(normed, "lm_head", self.w[head + ".weight"])
        if self.has("logits_capped"):
            logits = self.r(self.type(30) * np.tanh(logits / self.type(30)))
        return out | {"model.norm": normed, "lm_head": logits}

    def run(self, tokens, fed=()):
        cache = {}
        values = self.forward(np.asarray(tokens), 0, cache)
        for i, token in enumerate(fed):
            step = self.forward(np.asarray([token]), len(tokens) + i, cache)
            values |= {f"step_{i + 1}/{name}": array for name, array in step.items()}
        return values | {"tokens": np.asarray([*tokens, *fed])}


# name -> (where it shows: the end of a value's name, words that the sentence must have)
FAULTS = {
    "norm_eps": ("layernorm", "eps"), "norm_eps_outside": ("layernorm", "outside"), "norm_mean": ("layernorm", "mean"),
    "norm_bf16": ("layernorm", "bf16"), "norm_one_plus": ("layernorm", "1 + weight"), "norm_no_weight": ("layernorm", "weight"),
    "bias_missing": ("q_proj", "bias"), "bias_twice": ("q_proj", "bias"),
    "rope_pairs": ("q_rope", "pairs"), "theta": ("rotary_emb.cos", "theta"), "rope_scaled": ("rotary_emb.cos", "scal"),
    "sin_sign": ("rotary_emb.sin", "sign"), "inv_freq_bf16": ("rotary_emb.cos", "bf16"), "angles_bf16": ("rotary_emb.cos", "bf16"),
    "position_plus_one": ("rotary_emb.cos", "position"), "position_stays": ("step_1/model.rotary_emb.cos", "position"),
    "v_rotated": ("values", "rotat"), "kv_tiled": ("scores", "tile"),
    "scale_missing": ("scaled", "scale"), "scale_twice": ("scaled", "twice"), "scale_wrong_width": ("scaled", "width"),
    "softmax_bf16": ("weights", "bf16"), "softmax_axis": ("weights", "axis"),
    "mask_missing": ("masked", "mask"), "mask_off_by_one": ("masked", "off by one"), "mask_small": ("masked", "-10"),
    "mask_upside_down": ("masked", "upside down"),
    "o_proj_transposed": ("o_proj", "transposed"), "o_proj_int8": ("o_proj", "int8"), "down_proj_bf16_sums": ("down_proj", "bf16"),
    "up_proj_tf32": ("up_proj", "10 bits"), "up_proj_f16": ("up_proj", "f16"), "weights_of_next_layer": ("q_proj", "next layer"),
    "qk_swapped": ("q_proj", "swapped"), "gate_up_swapped": ("gate_proj", "swapped"),
    "act_relu": ("act_fn", "ReLU"), "act_gelu": ("act_fn", "GELU"), "act_gelu_tanh": ("act_fn", "tanh"),
    "residual_missing": ("attn_residual", "missing"), "residual_after_norm": ("attn_residual", "norm"),
    "final_norm_skipped": ("model.norm", "skipped"), "final_norm_twice": ("model.norm", "twice"), "head_tied": ("lm_head", "embedding"),
    "embedding_scaled": ("embed_tokens", "times"), "logits_capped": ("lm_head", "cap"),
}
