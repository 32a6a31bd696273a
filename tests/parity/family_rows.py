"""The rows of a family file as the reference needs them: which value is whose, and what a row computes.
The file is read as it stands; nothing here is the server's."""
import glob
import json
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FAMILIES = sorted(glob.glob(os.path.join(ROOT, "configs", "families", "*.json")))
INSIDE = ("matmul_qk", "scale", "divide", "tanh", "causal_mask", "softmax", "matmul_pv")


class Row:
    def __init__(self, name, op, inputs, attributes=None):
        self.name, self.op, self.inputs, self.attributes = name, op, inputs.split(), attributes or {}


class Family:
    """One family file with the rows of one attention."""

    def __init__(self, path, attention):
        with open(path, encoding="utf-8") as file:
            f = json.load(file)
        self.file, self.layers, self.input = f, f["layers"], f["input"]
        self.attention = [Row(*row) for row in f["attention"][attention]]
        self.section = {s: [r for row in f[s] for r in (self.attention if row == "attention" else [Row(*row)])]
                        for s in ("before", "layer", "after")}

    def of_op(self, section, op):
        return [r for r in self.section[section] if r.op == op]

    def attention_prefix(self):
        """"self_attn.", the module of the layer that attends."""
        return self.of_op("layer", "cache_append")[0].name.rpartition(".")[0]

    def turned(self):
        """The rows of queries and keys as attention takes them."""
        query = self.attention[0].inputs[0]
        key = self.of_op("layer", "cache_append")[0].inputs[0]
        return query, key

    def consumer(self, section, name, modules, prefix):
        """The module that is given this value, as its own input; None."""
        for row in self.section[section]:
            if row.inputs[:1] == [name] and prefix + row.name in modules and row.op in (
                    "linear", "rms_norm", "layer_norm", "silu", "gelu", "gelu_tanh"):
                return prefix + row.name
        return None


def family_of(architecture, attention):
    for path in FAMILIES:
        with open(path, encoding="utf-8") as file:
            if architecture in json.load(file)["architectures"]:
                return Family(path, attention)
    raise LookupError(f"no family file lists {architecture}")


def number(value, config, layer):
    """An attribute's value, as the server's family.h describes it."""
    if isinstance(value, dict):
        value = value[config.layer_types[layer]]
    if not isinstance(value, str):
        return value
    if " + " in value:
        return sum(number(key, config, layer) for key in value.split(" + "))
    kind, _, key = value.rpartition(" ")
    found = getattr(config, key, None)
    if key == "head_dim" and found is None:
        found = config.hidden_size // config.num_attention_heads
    found = found[layer] if isinstance(found, list) else found
    return found ** {"sqrt": 0.5, "rsqrt": -0.5, "": 1}[kind] if kind else found


def compute(torch, row, values, config, layer):
    """What a row that no module of the model computes makes of its inputs."""
    a = {key: number(value, config, layer) for key, value in row.attributes.items()
         if row.op in ("scale", "divide", "slice")}
    x = values[0]
    if row.op == "scale":
        return x * a["by"]
    if row.op == "divide":
        return x / a["by"]
    if row.op == "tanh":
        return torch.tanh(x)
    if row.op == "add":
        return x + values[1]
    if row.op == "mul":
        return x * values[1]
    if row.op == "slice":
        count, pieces = a.get("count", 1), a.get("pieces", 1)
        first = a.get("before", 0) * a["width"]
        part = x.view(*x.shape[:-1], pieces, -1)[..., first:first + count * a["width"]]
        return part.reshape(*x.shape[:-1], -1)
    raise LookupError(f"{row.name}: no reference computes {row.op}")
