"""A port of Qwen2 and its kin to JAX, as someone writes one, with mistakes that a switch plants.

    port = Port(folder, "bf16", faults=("rope_pairs",), layers=(1,))
    values = port.run(tokens, fed=[5, 17])      # fed: tokens of cached decode steps

Parameters have the names and layouts that JAX people use: a tree of `kernel` ([in, out]), `bias`, `scale` and `embedding`.  Blocks are
jitted; the KV cache is an array of fixed length that is written in place.  Values are named as in MaxText and keep their batch axis;
"step_1/..." for decode.  dtype and faults: as of numpy_port.
"""
import functools
import json
import math
import os

# Else XLA leaves out roundings to bf16 between operations, and what is dumped is not what the next one has read.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_allow_excess_precision=false"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
from faults import FAULTS  # noqa: E402
from numpy_port import f8, int8, llama3, nf4, read_safetensors, tf32  # noqa: E402

jax.config.update("jax_platforms", "cpu")
LOW = {"f32": float(np.finfo(np.float32).min), "bf16": float(ml_dtypes.finfo(ml_dtypes.bfloat16).min), "f16": -65504.0}
TYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}


def bf16(x):
    """reduce_precision, because XLA leaves out a cast there and back."""
    return jax.lax.reduce_precision(x.astype(jnp.float32), 8, 7)


def f16(x):
    return x.astype(jnp.float16).astype(jnp.float32)


def on_host(fn):
    """A function of numpy in a jitted program."""
    return lambda x: jax.pure_callback(lambda a: fn(np.asarray(a, np.float32)).astype(np.float32),
                                       jax.ShapeDtypeStruct(x.shape, jnp.float32), x)


def read_params(folder, dtype, layers):
    """The checkpoint as a tree: {"layers_0": {"self_attention": {"query": {"kernel", "bias"}}}}."""
    w = read_safetensors(folder)
    cast = functools.partial(jnp.asarray, dtype=TYPES[dtype])

    def dense(name):
        out = {"kernel": cast(w[name + ".weight"].T)}
        return out | ({"bias": cast(w[name + ".bias"])} if name + ".bias" in w else {})

    def block(p):
        attention = {ours: dense(p + "self_attn." + theirs) for ours, theirs in
                     (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "o_proj"))}
        for ours, theirs in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
            if f"{p}self_attn.{theirs}.weight" in w:
                attention[ours] = {"scale": cast(w[f"{p}self_attn.{theirs}.weight"])}
        return {"pre_self_attention_layer_norm": {"scale": cast(w[p + "input_layernorm.weight"])}, "self_attention": attention,
                "post_self_attention_layer_norm": {"scale": cast(w[p + "post_attention_layernorm.weight"])},
                "mlp": {ours: dense(p + "mlp." + theirs) for ours, theirs in (("wi_0", "gate_proj"), ("wi_1", "up_proj"), ("wo", "down_proj"))}}
    params = {f"layers_{i}": block(f"model.layers.{i}.") for i in range(layers)}
    params |= {"token_embedder": {"embedding": cast(w["model.embed_tokens.weight"])}, "decoder_norm": {"scale": cast(w["model.norm.weight"])}}
    if "lm_head.weight" in w:
        params["logits_dense"] = {"kernel": cast(w["lm_head.weight"].T)}
    return params


class Port:
    def __init__(self, folder, dtype="f32", faults=(), layers=None):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            c = json.load(f)
        self.folder, self.dtype, self.faults, self.layers = str(folder), dtype, frozenset(faults), layers
        assert self.faults <= set(FAULTS), self.faults
        self.type = TYPES[dtype]
        self.n, self.heads = c["num_hidden_layers"], c["num_attention_heads"]
        self.kv = c.get("num_key_value_heads") or self.heads
        self.width = c.get("head_dim") or c["hidden_size"] // self.heads
        self.eps, self.tied = c["rms_norm_eps"], c.get("tie_word_embeddings", False)
        self.scaling = c.get("rope_scaling") or c.get("rope_parameters") or {}
        self.theta = (c.get("rope_parameters") or {}).get("rope_theta") or c.get("rope_theta") or 10000.0
        window = c.get("sliding_window") if c.get("use_sliding_window", True) else None
        types = c.get("layer_types") or ["sliding_attention" if i >= c.get("max_window_layers", 0) else "" for i in range(self.n)]
        self.windows = [window if t == "sliding_attention" else None for t in types]
        self.params = _params(folder, dtype, self.n)

    def __hash__(self):
        return hash((self.dtype, self.folder))

    def __eq__(self, other):
        """A block that is compiled depends on these alone."""
        return (self.dtype, self.folder) == (other.dtype, other.folder)

    def facts(self):
        return {"bias": "bias" in self.params["layers_0"]["self_attention"]["query"], "tied": self.tied, "grouped": self.kv < self.heads,
                "layers": self.n}

    # ---- operations; `has` is what a block does wrong ----

    def norm(self, x, scale, has):
        eps = (1e-5 if self.eps < 5e-6 else 1e-6) if "norm_eps" in has else self.eps
        y = x.astype(jnp.float32)
        if "norm_bf16" in has:
            y = bf16(x)
            square = bf16(bf16(y * y).mean(-1, keepdims=True))
            return bf16(scale.astype(jnp.float32) * bf16(y * bf16(jax.lax.rsqrt(bf16(square + eps))))).astype(self.type)
        if "norm_mean" in has:
            y = y - y.mean(-1, keepdims=True)
        square = jnp.square(y).mean(-1, keepdims=True)
        y = y / (jnp.sqrt(square) + eps) if "norm_eps_outside" in has else y * jax.lax.rsqrt(square + eps)
        if "norm_weight_first" in has:
            return (y * scale.astype(jnp.float32)).astype(self.type)
        scale = 1 if "norm_no_weight" in has else scale + 1 if "norm_one_plus" in has else scale
        return y.astype(self.type) * scale

    def dense(self, x, p, has, kind):
        kernel = p["kernel"]
        if f"{kind}_transposed" in has and kernel.shape[0] == kernel.shape[1]:
            kernel = kernel.T
        if f"{kind}_int8" in has:
            kernel = on_host(int8)(kernel.T.astype(jnp.float32)).T
        if f"{kind}_nf4" in has:
            kernel = on_host(nf4)(kernel.T.astype(jnp.float32)).T
        if "other_checkpoint" in has:
            kernel = kernel + (0.02 * jnp.abs(kernel).max() * jnp.sin(jnp.arange(kernel.size)).reshape(kernel.shape)).astype(self.type)
        x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
        if f"{kind}_tf32" in has:
            x, kernel = on_host(tf32)(x), on_host(tf32)(kernel)
        if f"{kind}_f16" in has:
            x, kernel = f16(x), f16(kernel)
        if f"{kind}_bf16_sums" in has:
            y, _ = jax.lax.scan(lambda total, row: (bf16(total + row[0][..., None] * row[1]), None),
                                jnp.zeros((*x.shape[:-1], kernel.shape[1])), (jnp.moveaxis(x, -1, 0), kernel))
        else:
            y = jnp.matmul(x, kernel, precision="highest")
        times = 2 if "bias_twice" in has else 0 if "bias_missing" in has or ("bias_after_rotation" in has and kind != "v_proj") else 1
        return (y + times * p["bias"].astype(jnp.float32) if "bias" in p else y).astype(self.type)

    def tables(self, positions):
        theta = (1e6 if self.theta != 1e6 else 500.0) if "theta" in self.faults else self.theta
        inv = (1 / theta ** (np.arange(0, self.width, 2, dtype=np.float32) / self.width)).astype(np.float32)
        if self.scaling.get("rope_type", self.scaling.get("type")) == "llama3" and "rope_scaling_ignored" not in self.faults:
            inv = llama3(inv, self.scaling)
        inv = jnp.asarray(inv) / (2 if "rope_scaled" in self.faults else 1)
        inv = bf16(inv) if "inv_freq_bf16" in self.faults else inv
        positions = (positions + (1 if "position_plus_one" in self.faults else 0)).astype(jnp.float32)
        angle = (bf16(positions) if "positions_bf16" in self.faults else positions)[:, None] * inv
        angle = bf16(angle) if "angles_bf16" in self.faults else angle
        angle = jnp.concatenate([angle, angle], -1)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        cos, sin = (bf16(cos), bf16(sin)) if "tables_bf16" in self.faults else (cos, sin)
        return cos.astype(self.type), (-sin if "sin_sign" in self.faults else sin).astype(self.type)

    def rope(self, x, cos, sin, has):
        """[B, T, n, D]"""
        half = self.width // 2
        cos, sin = (t[:, None] for t in (cos, sin))
        if "rope_pairs" in has:
            turned = jnp.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
            cos, sin = (jnp.repeat(t[..., :half], 2, -1) for t in (cos, sin))
        else:
            turned = jnp.concatenate([-x[..., half:], x[..., :half]], -1)
        return x * cos + turned * sin

    def softmax(self, x, has):
        x = x.astype(jnp.float32)
        if "softmax_bf16" in has:
            e = bf16(jnp.exp(bf16(x - x.max(-1, keepdims=True))))
            return bf16(e / bf16(e.sum(-1, keepdims=True))).astype(self.type)
        if "softmax_no_max" in has:
            e = jnp.exp(x).astype(self.type)
            return e / e.sum(-1, keepdims=True).astype(self.type)
        return jax.nn.softmax(x, axis=-2 if "softmax_axis" in has else -1).astype(self.type)

    def act(self, x, has):
        y = x.astype(jnp.float32)
        fn = jax.nn.relu if "act_relu" in has else functools.partial(jax.nn.gelu, approximate=True) if "act_gelu_tanh" in has else \
            functools.partial(jax.nn.gelu, approximate=False) if "act_gelu" in has else jax.nn.silu
        return fn(y).astype(self.type)

    # ---- a block ----

    def hidden(self, T, L, window, padding, has):
        query, key = jnp.arange(T)[:, None] + L - T, jnp.arange(L)[None, :]
        hidden = key > query + (1 if "mask_off_by_one" in has else 0)
        hidden = key < query if "mask_upside_down" in has else hidden & False if "mask_missing" in has else hidden
        if window and "window_ignored" not in has:
            hidden = hidden | (key <= query - window - (1 if "window_off_by_one" in has else 0))
        return hidden if "padding_attended" in has else hidden | (key < padding)

    def write(self, cache, new, past, has):
        """A cache [B, Lmax, G, D] with the new rows at `past`."""
        narrow = {"cache_bf16": bf16, "cache_f8": on_host(f8), "cache_int8": on_host(int8)}
        for kind in narrow.keys() & has:
            new = narrow[kind](new.astype(jnp.float32)).astype(self.type)
        if "cache_shifted" in has and past:
            cache = cache.at[:, :past].set(jnp.roll(cache[:, :past], 1, axis=1))
        if "cache_stale" in has and past:
            return cache
        return jax.lax.dynamic_update_slice(cache, new, (0, past - 1 if "cache_early" in has and past else past, 0, 0))

    def attention(self, p, other, x, cos, sin, caches, past, window, padding, has):
        names = {"query": "query", "key": "key", "value": "value"}
        if "qk_swapped" in has:
            names["query"], names["key"] = names["key"], names["query"]
        if "kv_swapped" in has:
            names["key"], names["value"] = names["value"], names["key"]
        out, kinds = {}, {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
        q, k, v = (self.dense(x, (other if "weights_of_next_layer" in has and n == "query" else p)["self_attention"][names[n]], has, kinds[n])
                   for n in names)
        q, k, v = (a.reshape(*a.shape[:2], -1, self.width) for a in (q, k, v))
        out |= {"query": q, "key": k, "value": v}
        if "query_norm" in p["self_attention"]:
            q, k = (self.norm(a, p["self_attention"][n]["scale"], has) for a, n in ((q, "query_norm"), (k, "key_norm")))
            out |= {"query_norm": q, "key_norm": k}
        q, k = self.rope(q, cos, sin, has), self.rope(k, cos, sin, has)
        if "bias_after_rotation" in has:
            q, k = (a + p["self_attention"][n]["bias"].reshape(-1, self.width) for a, n in ((q, "query"), (k, "key")))
        v = self.rope(v, cos, sin, has) if "v_rotated" in has else v
        out |= {"query_rope": q, "key_rope": k}
        caches = tuple(self.write(c, a, past, has) for c, a in zip(caches, (k, v)))
        T = x.shape[1]
        first = max(0, past - window + 1) if window else 0
        keys, values = (c[:, first:past + T] for c in caches)
        out |= {"cached_key": keys, "cached_value": values}
        group = self.heads // self.kv
        spread = (lambda a: jnp.tile(a, (1, 1, group, 1))) if "kv_tiled" in has else (lambda a: jnp.repeat(a, group, 2))
        exact = {"precision": "highest", "preferred_element_type": jnp.float32}
        scores = jnp.einsum("btnd,bsnd->bnts", q, spread(keys), **exact).astype(self.type)
        scale = self.width ** -0.5
        scale = 1 if has & {"scale_missing", "scale_after_softmax"} else scale * scale if "scale_twice" in has else \
            (self.heads * self.width) ** -0.5 if "scale_wrong_width" in has else scale
        scaled = (scores * scale).astype(self.type)
        hidden = self.hidden(T, scaled.shape[-1], window, padding - first, has)
        masked = jnp.where(hidden, jnp.asarray(-10 if "mask_small" in has else LOW[self.dtype], self.type), scaled)
        weights = self.softmax(masked, has)
        weights = (weights * self.width ** -0.5).astype(self.type) if "scale_after_softmax" in has else weights
        context = jnp.einsum("bnts,bsnd->btnd", weights, spread(values), **exact).astype(self.type)
        out |= {"scores": scores, "scaled_scores": scaled, "masked_scores": masked, "attention_weights": weights, "encoded": context}
        o = self.dense(context.reshape(*x.shape[:2], -1), p["self_attention"]["out"], has, "o_proj")
        return o, caches, {f"self_attention/{k}": a for k, a in out.items()} | {"self_attention/out": o}

    @functools.partial(jax.jit, static_argnums=(0, 7, 8, 9, 10))
    def block(self, p, other, x, cos, sin, caches, past, window, padding, has):
        scales = [(other if "norm_of_next_layer" in has else p)[n]["scale"]
                  for n in ("pre_self_attention_layer_norm", "post_self_attention_layer_norm")]
        if "other_checkpoint" in has:
            scales = [s * (1 + 0.1 * jnp.sin(jnp.arange(s.size))).astype(self.type) for s in scales]
        normed = self.norm(x, scales[0], has)
        o, caches, out = self.attention(p, other, normed, cos, sin, caches, past, window, padding, has)
        wide = jnp.float32 if "residual_f32" in has else self.type
        residual = (normed if "residual_after_norm" in has else jnp.zeros_like(x) if "residual_missing" in has else x).astype(wide) + o
        second = self.norm(residual, scales[1], has)
        gate, up = ("wi_1", "wi_0") if "gate_up_swapped" in has else ("wi_0", "wi_1")
        gate, up = self.dense(second, p["mlp"][gate], has, "gate_proj"), self.dense(second, p["mlp"][up], has, "up_proj")
        act = self.act(gate, has)
        product = act * up
        down = self.dense(product, p["mlp"]["wo"], has, "down_proj")
        out |= {"pre_self_attention_layer_norm": normed, "intermediate_inputs": residual, "post_self_attention_layer_norm": second,
                "mlp/wi_0": gate, "mlp/wi_1": up, "mlp/silu": act, "mlp/product": product, "mlp/wo": down, "layer_output": residual + down}
        return residual + down, caches, out

    # ---- the model ----

    def forward(self, tokens, past, caches, padding):
        has, out = self.faults, {}
        positions = jnp.arange(past, past + len(tokens)) - (1 if "position_stays" in has and past else 0)
        x = self.params["token_embedder"]["embedding"][jnp.asarray(tokens)][None]
        x = (x * math.sqrt(x.shape[-1])).astype(self.type) if "embedding_scaled" in has else x
        cos, sin = self.tables(positions)
        out |= {"token_embedder": x, "rope_cos": cos, "rope_sin": sin}
        for i in range(self.n):
            here = frozenset(has if self.layers is None or i in self.layers else ())
            other = self.params[f"layers_{i + 1 if i + 1 < self.n else i - 1}"]
            x, caches[i], made = self.block(self.params[f"layers_{i}"], other, x, cos, sin, caches[i], past, self.windows[i], padding, here)
            out |= {f"decoder/layers_{i}/{k}": a for k, a in made.items()}
        scale, none = self.params["decoder_norm"]["scale"], frozenset()
        normed = x if "final_norm_skipped" in has else self.norm(x, scale, none)
        normed = self.norm(normed, scale, none) if "final_norm_twice" in has else normed
        head = {"kernel": self.params["token_embedder"]["embedding"].T} if self.tied or "head_tied" in has else self.params["logits_dense"]
        logits = self.dense(normed, head, none, "lm_head")
        logits = (30 * jnp.tanh(logits / 30)).astype(self.type) if "logits_capped" in has else logits
        logits = (logits * 0.25).astype(self.type) if "logits_scaled" in has else logits
        return out | {"decoder_norm": normed, "logits": logits}

    def run(self, tokens, fed=(), padding=0):
        """padding: so many of the first tokens."""
        shape = (1, len(tokens) + len(fed), self.kv, self.width)
        caches = [(jnp.zeros(shape, self.type), jnp.zeros(shape, self.type)) for _ in range(self.n)]
        values = self.forward(tokens, 0, caches, padding)
        for i, token in enumerate(fed):
            values |= {f"step_{i + 1}/{k}": a for k, a in self.forward([token], len(tokens) + i, caches, padding).items()}
        return {k: np.asarray(a) for k, a in values.items()} | {"tokens": np.asarray([*tokens, *fed])}


@functools.lru_cache(maxsize=8)
def _params(folder, dtype, layers):
    return read_params(folder, dtype, layers)
