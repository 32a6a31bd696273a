"""The source lines that configs/families/*.json cite are the lines of transformers that compute the
rows.  Needs transformers of the cited version, but runs nothing of it."""
import glob
import importlib.util
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FAMILIES = sorted(glob.glob(os.path.join(ROOT, "configs", "families", "*.json")))

# What the line of a row must show, by op; {last} is the last part of the row's name.
SHOWS = {
    "embedding": r"= self\.{last}\(",
    "linear": r"self\.{last}\(",
    "rms_norm": r"self\.{last}\(",
    "silu": r"self\.{last}\(self\.gate_proj\(",
    "gelu_tanh": r"self\.{last}\(self\.gate_proj\(",
    "mul": r"self\.act_fn\(.*\) \* self\.up_proj\(",
    "rotary": r"^ *{last} = emb\.{last}\(\) \* self\.attention_scaling",
    "rope": r"^ *{last}_embed = \({last} \* cos\) \+ \(rotate_half\({last}\) \* sin\)",
    "cache_append": r"= past_key_values\.update\(key_states, value_states, self\.layer_idx\)",
    "matmul_qk": r"torch\.matmul\(query, key_states\.transpose\(2, 3\)\)",
    "scale": r"torch\.matmul\(query, .*\) \* scaling",
    "causal_mask": r"attn_weights \+ attention_mask",
    "softmax": r"attn_weights = nn\.functional\.softmax\(attn_weights, dim=-1, dtype=torch\.float32\)",
    "matmul_pv": r"torch\.matmul\(attn_weights, value_states\)",
    "sdpa": r"attn_output, attn_weights = attention_interface\(",
    "add": r"hidden_states = residual \+ hidden_states",
}


def source(family):
    """The lines of the file that the family cites; LookupError where that transformers is not here."""
    spec = importlib.util.find_spec("transformers")
    if spec is None:
        raise LookupError("transformers is not installed")
    folder = os.path.dirname(spec.origin)
    with open(os.path.join(folder, "__init__.py"), encoding="utf-8") as file:
        version = re.search(r'^__version__ = "(.*)"', file.read(), re.M).group(1)
    if version != family["mirror"]["transformers"]:
        raise LookupError(f"transformers is {version}, cited is {family['mirror']['transformers']}")
    with open(os.path.join(folder, family["mirror"]["file"]), encoding="utf-8") as file:
        return file.read().split("\n")


def rows(family, attention):
    for section in ("before", "layer", "after"):
        for row in family[section]:
            yield from family["attention"][attention] if row == "attention" else [row]


def faults(family, text):
    """Rows whose line is missing, outside the file, or shows something else."""
    lines, out = family["mirror"]["lines"], []
    for attention in family["attention"]:
        for name, op, *_ in rows(family, attention):
            last = name.split(".")[-1].removesuffix("_rope")
            line = lines.get(name, 0)
            line = line[attention] if isinstance(line, dict) else line
            if not 0 < line <= len(text):
                out.append(f"{name}: no line {line}")
            elif not re.search(SHOWS[op].replace("{last}", last), text[line - 1]):
                out.append(f"{name}: line {line} is {text[line - 1].strip()!r}")
    # the two sums of a layer read alike
    order = [lines[name] for name in ("input_layernorm", "attn_residual",
                                      "post_attention_layernorm", "x")]
    if order != sorted(set(order)):
        out.append(f"the layer's lines are out of order: {order}")
    return out


def checks():
    """(family, what is wrong with its lines) of every family file."""
    for path in FAMILIES:
        with open(path, encoding="utf-8") as file:
            family = json.load(file)
        yield os.path.basename(path).removesuffix(".json"), faults(family, source(family))
