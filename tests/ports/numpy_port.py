"""A port of Qwen2 and its kin to numpy, as someone writes one, with mistakes that a switch plants.

    port = Port(folder, "f32", faults=("wrong_eps",), layers=(1,))
    values = port.run(tokens, fed=[5, 17])      # fed: tokens of cached decode steps

dtype: "f32", "bf16" or "f16" (rounded after every operation, as PyTorch does) or "f64".  faults: names in faults.FAULTS; they are
made in `layers` (None: in all) and outside of the layers.  Values have the names of transformers' modules, "step_1/..." for decode.
"""
import functools
import json
import math
import os

import ml_dtypes
import numpy as np
from faults import FAULTS

LOW = {"f32": np.finfo(np.float32).min, "bf16": float(ml_dtypes.finfo(ml_dtypes.bfloat16).min), "f64": -3.3895313892515355e38,
       "f16": -65504.0}
NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
                -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
                0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0])


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


def nf4(w):
    """In blocks of 64, each a multiple of its largest number."""
    blocks = np.pad(w, ((0, 0), (0, -w.shape[1] % 64))).reshape(len(w), -1, 64).astype(np.float64)
    most = np.abs(blocks).max(-1, keepdims=True)
    share = np.where(most > 0, blocks / np.where(most == 0, 1, most), -1)
    code = NF4[(share[..., None] > (NF4[1:] + NF4[:-1]) / 2).sum(-1)] * most
    return code.reshape(len(w), -1)[:, :w.shape[1]].astype(np.float32)


def f8(x):
    return np.clip(np.asarray(x, np.float32), -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)


def llama3(inv, c):
    """Frequencies as Llama 3 scales them."""
    wave = 2 * math.pi / inv
    low, high = (c["original_max_position_embeddings"] / c[k] for k in ("low_freq_factor", "high_freq_factor"))
    smooth = (c["original_max_position_embeddings"] / wave - c["low_freq_factor"]) / (c["high_freq_factor"] - c["low_freq_factor"])
    between = (1 - smooth) * inv / c["factor"] + smooth * inv
    return np.where(wave > low, inv / c["factor"], np.where(wave < high, inv, between)).astype(np.float32)


@functools.lru_cache(maxsize=4)
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
        self.w = _weights(folder, self.type)
        self.n = c["num_hidden_layers"]
        self.heads = c["num_attention_heads"]
        self.kv = c.get("num_key_value_heads") or self.heads
        self.width = c.get("head_dim") or c["hidden_size"] // self.heads
        self.eps = c["rms_norm_eps"]
        self.scaling = c.get("rope_scaling") or c.get("rope_parameters") or {}
        types = c.get("layer_types") or ["sliding_attention" if i >= c.get("max_window_layers", 0) else "full_attention"
                                         for i in range(self.n)]
        window = c.get("sliding_window") if c.get("use_sliding_window", True) else None
        self.windows = [window if t == "sliding_attention" else None for t in types]
        self.padding = 0
        self.theta = (c.get("rope_parameters") or {}).get("rope_theta") or c.get("rope_theta") or 10000.0
        self.tied = c.get("tie_word_embeddings", False)
        self.layer = -1

    def has(self, fault):
        return fault in self.faults and (self.layers is None or self.layer in self.layers or self.layer < 0)

    def facts(self):
        """What decides which mistakes can be made."""
        return {"bias": "model.layers.0.self_attn.q_proj.bias" in self.w, "tied": self.tied, "grouped": self.kv < self.heads,
                "layers": self.n}

    # ---- operations; r() is the rounding of what an operation gives ----

    def r(self, x):
        return bf16(x) if self.dtype == "bf16" else f16(x) if self.dtype == "f16" else np.asarray(x, self.type)

    def norm(self, x, name, eps=None):
        w, eps = self.w[name + ".weight"], self.eps if eps is None else eps
        if self.has("norm_of_next_layer") and self.layer >= 0:
            w = self.w[self.next_layer(name) + ".weight"]
        if self.has("other_checkpoint") and self.layer >= 0:
            w = self.r(w * (1 + 0.1 * np.sin(np.arange(len(w)))).astype(self.type))
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
        if self.has("norm_weight_first"):
            return self.r(w * (y * scale))
        return self.r(w * self.r(y * scale))

    def next_layer(self, name):
        """The layer before for the last one."""
        return name.replace(f".{self.layer}.", f".{self.layer + 1 if self.layer + 1 < self.n else self.layer - 1}.")

    def linear(self, x, name, w=None):
        w = self.w[name + ".weight"] if w is None else w
        kind = name.rsplit(".", 1)[-1]
        if self.has(f"{kind}_transposed") and w.shape[0] == w.shape[1]:
            w = w.T
        if self.has(f"{kind}_int8"):
            w = int8(w)
        if self.has(f"{kind}_nf4"):
            w = nf4(w).astype(self.type)
        if self.has("other_checkpoint") and self.layer >= 0:
            w = self.r(w + 0.02 * np.abs(w).max() * np.sin(np.arange(w.size)).reshape(w.shape).astype(self.type))
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
            missing = self.has("bias_missing") or (self.has("bias_after_rotation") and kind in ("q_proj", "k_proj"))
            y = y + b * (0 if missing else 2 if self.has("bias_twice") else 1)
        return self.r(y)

    def tables(self, positions):
        theta = 1e6 if self.has("theta") and self.theta != 1e6 else 500.0 if self.has("theta") else self.theta
        inv = (1 / theta ** (np.arange(0, self.width, 2, dtype=np.float32) / self.width)).astype(np.float32)
        if self.scaling.get("rope_type", self.scaling.get("type")) == "llama3" and not self.has("rope_scaling_ignored"):
            inv = llama3(inv, self.scaling)
        if self.has("inv_freq_bf16"):
            inv = bf16(inv)
        if self.has("position_plus_one"):
            positions = positions + 1
        positions = bf16(positions) if self.has("positions_bf16") else positions
        angle = (positions[:, None].astype(np.float32) * (inv / 2 if self.has("rope_scaled") else inv)).astype(self.type)
        if self.has("angles_bf16"):
            angle = bf16(angle).astype(self.type)
        angle = np.concatenate([angle, angle], -1)
        cos, sin = np.cos(angle), np.sin(angle)
        if self.has("tables_bf16"):
            cos, sin = bf16(cos).astype(self.type), bf16(sin).astype(self.type)
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
        if self.has("softmax_no_max"):
            with np.errstate(all="ignore"):
                e = self.r(np.exp(x))
                return self.r(e / self.r(e.sum(axis, keepdims=True)))
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
        if self.has("qk_swapped"):
            names["q"], names["k"] = names["k"], names["q"]
        if self.has("kv_swapped"):
            names["k"], names["v"] = names["v"], names["k"]
        q, k, v = (self.linear(x, p + "self_attn." + names[n]) for n in "qkv")
        if self.has("weights_of_next_layer"):
            q = self.linear(x, self.next_layer(p) + "self_attn.q_proj")
        out |= {p + "self_attn.q_proj": q, p + "self_attn.k_proj": k, p + "self_attn.v_proj": v}
        q, k, v = (a.reshape(len(x), -1, self.width) for a in (q, k, v))
        if p + "self_attn.q_norm.weight" in self.w:
            q, k = (self.norm(a, p + f"self_attn.{n}_norm") for a, n in ((q, "q"), (k, "k")))
            out |= {p + "self_attn.q_norm": q, p + "self_attn.k_norm": k}
        q, k = self.rope(q, cos, sin), self.rope(k, cos, sin)
        if self.has("bias_after_rotation"):
            q, k = (self.r(a + self.w[p + f"self_attn.{n}_proj.bias"].reshape(-1, 1, self.width)) for a, n in ((q, "q"), (k, "k")))
        v = self.rope(v, cos, sin) if self.has("v_rotated") else v.transpose(1, 0, 2)
        out |= {p + "self_attn.q_rope": q, p + "self_attn.k_rope": k}
        k, v = cache[p] = self.append(cache.get(p), k, v)
        if self.windows[self.layer]:
            cache[p] = k[:, 1 - self.windows[self.layer]:], v[:, 1 - self.windows[self.layer]:]
        out |= {p + "self_attn.keys": k, p + "self_attn.values": v}
        group = self.heads // self.kv
        spread = (lambda a: np.tile(a, (group, 1, 1))) if self.has("kv_tiled") else (lambda a: np.repeat(a, group, 0))
        scores = self.r(q @ spread(k).transpose(0, 2, 1))
        scale = self.type(self.width ** -0.5)
        late = scale if self.has("scale_after_softmax") else self.type(1)
        if self.has("scale_missing") or self.has("scale_after_softmax"):
            scale = self.type(1)
        scale = scale * scale if self.has("scale_twice") else scale
        if self.has("scale_wrong_width"):
            scale = self.type((self.heads * self.width) ** -0.5)
        scaled = self.r(scores * scale)
        T = scaled.shape[1]
        masked = np.where(self.hidden(*scaled.shape[1:]), self.type(-10 if self.has("mask_small") else LOW[self.dtype]), scaled)
        weights = self.r(self.softmax(masked) * late)
        context = self.r((weights @ spread(v)).transpose(1, 0, 2).reshape(T, -1))
        out |= {p + "self_attn.scores": scores, p + "self_attn.scaled": scaled, p + "self_attn.masked": masked,
                p + "self_attn.weights": weights, p + "self_attn.context": context}
        return self.linear(context, p + "self_attn.o_proj")

    def append(self, old, k, v):
        """Keys and values with those of the cache before them."""
        for kind, narrow in (("cache_bf16", bf16), ("cache_f8", f8), ("cache_int8", int8)):
            if self.has(kind):
                k, v = narrow(k).astype(self.type), narrow(v).astype(self.type)
        if old is None:
            return k, v
        if self.has("cache_shifted"):
            old = [np.roll(a, 1, axis=1) for a in old]
        if self.has("cache_stale"):
            k, v = k * 0, v * 0
        if self.has("cache_early"):
            return [np.concatenate([o[:, :-1], a, a * 0], 1) for o, a in zip(old, (k, v))]
        return [np.concatenate([o, a], 1) for o, a in zip(old, (k, v))]

    def hidden(self, T, L):
        """Which keys a query does not see."""
        query, key = np.arange(T)[:, None] + L - T, np.arange(L)[None, :]
        hidden = key > query + (1 if self.has("mask_off_by_one") else 0)
        if self.has("mask_upside_down"):
            hidden = key < query
        if self.has("mask_missing"):
            hidden = hidden & False
        window = self.windows[self.layer]
        if window and not self.has("window_ignored"):
            hidden = hidden | (key <= query - window - (1 if self.has("window_off_by_one") else 0))
        if self.padding and not self.has("padding_attended"):
            hidden = hidden | (key < self.padding)
        return np.broadcast_to(hidden, (T, L))

    def block(self, x, layer, cos, sin, cache, out):
        self.layer, p = layer, f"model.layers.{layer}."
        normed = self.norm(x, p + "input_layernorm")
        out[p + "input_layernorm"] = normed
        o = self.attention(normed, p, cos, sin, cache, out)
        wide = (lambda a: a) if self.has("residual_f32") else self.r
        residual = wide((normed if self.has("residual_after_norm") else 0 if self.has("residual_missing") else x) + o)
        normed = self.norm(residual, p + "post_attention_layernorm")
        names = ("up_proj", "gate_proj") if self.has("gate_up_swapped") else ("gate_proj", "up_proj")
        gate, up = (self.linear(normed, p + "mlp." + n) for n in names)
        act = self.act(gate)
        product = self.r(act * up)
        down = self.linear(product, p + "mlp.down_proj")
        out |= {p + "self_attn.o_proj": o, p + "attn_residual": residual, p + "post_attention_layernorm": normed,
                p + "mlp.gate_proj": gate, p + "mlp.up_proj": up, p + "mlp.act_fn": act, p + "mlp.product": product,
                p + "mlp.down_proj": down, p[:-1]: wide(residual + down)}
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
        if self.has("logits_scaled"):
            logits = self.r(logits * self.type(0.25))
        return out | {"model.norm": normed, "lm_head": logits}

    def run(self, tokens, fed=(), padding=0):
        """padding: so many of the first tokens."""
        cache, self.padding = {}, padding
        values = self.forward(np.asarray(tokens), 0, cache)
        for i, token in enumerate(fed):
            step = self.forward(np.asarray([token]), len(tokens) + i, cache)
            values |= {f"step_{i + 1}/{name}": array for name, array in step.items()}
        return values | {"tokens": np.asarray([*tokens, *fed])}


@functools.lru_cache(maxsize=4)
def _weights(folder, kind):
    return {k: bf16(v).astype(kind) for k, v in read_safetensors(folder).items()}
