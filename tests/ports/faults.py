"""The mistakes that the ports plant by a switch: where each shows, and what its sentence must say.

FAULTS: name -> (the end of the value's name, words of the sentence).  The rest are those that need something: CACHED show in cached decode
steps alone, GLOBAL are made outside of the layers, NEEDS says what else (a model, a dtype, a longer prompt, padding).  ALSO: words
that another finding may have, because the mistake is two.
"""
FAULTS = {
    "norm_eps": ("layernorm", "eps"), "norm_eps_outside": ("layernorm", "outside"), "norm_mean": ("layernorm", "mean"),
    "norm_bf16": ("layernorm", "bf16"), "norm_one_plus": ("layernorm", "1 + weight"), "norm_no_weight": ("layernorm", "weight"),
    "norm_weight_first": ("layernorm", "before rounding"), "norm_of_next_layer": ("layernorm", "that of the"),
    "bias_missing": ("q_proj", "bias"), "bias_twice": ("q_proj", "bias"), "bias_after_rotation": ("q_rope", "after the rotation"),
    "rope_pairs": ("q_rope", "pairs"), "theta": ("rotary_emb.cos", "theta"), "rope_scaled": ("rotary_emb.cos", "scal"),
    "rope_scaling_ignored": ("rotary_emb.cos", "rope_scaling is ignored"),
    "sin_sign": ("rotary_emb.sin", "sign"), "inv_freq_bf16": ("rotary_emb.cos", "frequencies are rounded to bf16"),
    "positions_bf16": ("rotary_emb.cos", "positions are rounded to bf16"),
    "angles_bf16": ("rotary_emb.cos", "angles are rounded to bf16"), "tables_bf16": ("rotary_emb.cos", "cos and sin are rounded"),
    "position_plus_one": ("rotary_emb.cos", "position"), "position_stays": ("rotary_emb.cos", "position"),
    "v_rotated": ("values", "rotat"), "kv_tiled": ("scores", "tile"),
    "scale_missing": ("scaled", "scale"), "scale_twice": ("scaled", "twice"), "scale_wrong_width": ("scaled", "width"),
    "scale_after_softmax": ("weights", "after softmax"),
    "softmax_bf16": ("weights", "bf16"), "softmax_axis": ("weights", "axis"), "softmax_no_max": ("weights", "maximum"),
    "mask_missing": ("masked", "mask"), "mask_off_by_one": ("masked", "off by one"), "mask_small": ("masked", "-10"),
    "mask_upside_down": ("masked", "upside down"),
    "window_ignored": ("masked", "window is ignored"), "window_off_by_one": ("masked", "window is one too long"),
    "padding_attended": ("masked", "padding is attended"),
    "cache_shifted": ("keys", "shifted"), "cache_stale": ("keys", "stale"), "cache_early": ("keys", "too early"),
    "cache_bf16": ("keys", "in bf16"), "cache_f8": ("keys", "8-bit floats"), "cache_int8": ("keys", "int8"),
    "o_proj_transposed": ("o_proj", "transposed"), "q_proj_transposed": ("q_proj", "transposed"),
    "o_proj_int8": ("o_proj", "int8"), "down_proj_nf4": ("down_proj", "nf4"), "down_proj_bf16_sums": ("down_proj", "bf16"),
    "up_proj_tf32": ("up_proj", "10 bits"), "up_proj_f16": ("up_proj", "f16"), "weights_of_next_layer": ("q_proj", "that of the"),
    "other_checkpoint": ("gate_proj", "another checkpoint"),
    "qk_swapped": ("q_proj", "swapped"), "kv_swapped": ("k_proj", "swapped"), "gate_up_swapped": ("gate_proj", "swapped"),
    "act_relu": ("act_fn", "ReLU"), "act_gelu": ("act_fn", "GELU (erf)"), "act_gelu_tanh": ("act_fn", "tanh"),
    "residual_missing": ("attn_residual", "missing"), "residual_after_norm": ("attn_residual", "norm"),
    "residual_f32": ("attn_residual", "float32"),
    "final_norm_skipped": ("model.norm", "skipped"), "final_norm_twice": ("model.norm", "twice"), "head_tied": ("lm_head", "embedding"),
    "embedding_scaled": ("embed_tokens", "times"), "logits_capped": ("lm_head", "cap"), "logits_scaled": ("lm_head", "times"),
}
CACHED = {"position_stays", "cache_shifted", "cache_stale", "cache_early"}
GLOBAL = {f for f, (end, _) in FAULTS.items() if end.split(".")[0] in ("rotary_emb", "model", "lm_head", "embed_tokens")}
# grouped: whether there are fewer K/V heads than query heads; first: the first layer where it can be made
NEEDS = {
    "norm_weight_first": {"dtype": "bf16"}, "residual_f32": {"dtype": "bf16"},
    "tables_bf16": {"dtype": "f32"}, "cache_bf16": {"dtype": "f32"}, "softmax_no_max": {"dtype": "f16", "nan": True},
    "rope_scaling_ignored": {"model": "tiny-llama3-rope"}, "positions_bf16": {"length": 300},
    "window_ignored": {"model": "tiny-qwen2-sliding", "length": 24, "first": 1},
    "window_off_by_one": {"model": "tiny-qwen2-sliding", "length": 24, "first": 1}, "padding_attended": {"padding": 3},
    "bias_missing": {"bias": True}, "bias_twice": {"bias": True}, "bias_after_rotation": {"bias": True},
    "head_tied": {"tied": False}, "qk_swapped": {"grouped": False, "model": "hunt-qwen2-mha"}, "kv_tiled": {"grouped": True},
}
ALSO = {"angles_bf16": ("frequencies are rounded",), "bias_after_rotation": ("bias is missing",), "scale_after_softmax": ("scale",), "v_rotated": ("rotat",),
        "kv_tiled": ("tile",), "other_checkpoint": ("another checkpoint",), "cache_early": ("cache",)}
PAIRS = [
    ("rope_pairs", "act_gelu"), ("norm_eps", "scale_twice"), ("kv_tiled", "o_proj_int8"), ("theta", "residual_missing"),
    ("bias_missing", "softmax_bf16"), ("mask_off_by_one", "up_proj_f16"), ("sin_sign", "gate_up_swapped"), ("v_rotated", "norm_mean"),
    ("scale_missing", "act_relu"), ("rope_pairs", "scale_wrong_width"), ("position_plus_one", "bias_twice"),
    ("norm_one_plus", "mask_missing"), ("embedding_scaled", "down_proj_nf4"), ("final_norm_twice", "act_gelu_tanh"),
    ("cache_bf16", "norm_bf16"), ("kv_swapped", "residual_after_norm"), ("o_proj_transposed", "norm_no_weight"),
    ("softmax_axis", "up_proj_tf32"), ("weights_of_next_layer", "scale_after_softmax"), ("inv_freq_bf16", "logits_capped"),
    ("cache_shifted", "act_gelu"), ("angles_bf16", "kv_tiled"), ("norm_of_next_layer", "down_proj_bf16_sums"),
]


def places(fault, layers):
    """Layers to plant it in: the first, a middle and the last; once where it is outside of them."""
    if fault in GLOBAL:
        return [0]
    first = NEEDS.get(fault, {}).get("first", 0)
    return sorted({first, (first + layers - 1) // 2, layers - 1})


def applies(fault, config, dtype):
    """Whether the mistake can be made in a port of that dtype to that model (config: what Port.facts() says)."""
    need = NEEDS.get(fault, {})
    return all(need.get(k, v) == v for k, v in (("dtype", dtype), ("bias", config["bias"]), ("tied", config["tied"]),
                                               ("grouped", config["grouped"])))
