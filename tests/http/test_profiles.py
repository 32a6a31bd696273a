"""`samebit compare --by position|head --histogram`, and whether an error is said to grow with the position."""
import ml_dtypes
import numpy
import pytest
from client_tools import DIFFERENT, TROUBLE, bf16, compare, samebit, widen, write
from conftest import BINARY

HEADS, KV, T, WIDTH = 4, 2, 20, 8
LAYER = "model.layers.0."
SHAPES = {"self_attn.q_rope": (HEADS, T, WIDTH), "self_attn.k_rope": (KV, T, WIDTH), "self_attn.q_proj": (T, HEADS * WIDTH),
          "self_attn.v_proj": (T, KV * WIDTH), "self_attn.weights": (HEADS, T, T), "mlp.act_fn": (T, 3 * WIDTH), "self_attn.context": (1, T, HEADS * WIDTH)}


def by_hand(name, array):
    """[positions, X] and [heads, X] or None of the same elements."""
    if array.ndim == 3 and array.shape[0] in (HEADS, KV):
        return array.swapaxes(0, 1).reshape(T, -1), array.reshape(array.shape[0], -1)
    flat = array.reshape(T, -1)
    heads = flat.reshape(T, -1, WIDTH).swapaxes(0, 1).reshape(flat.shape[1] // WIDTH, -1)
    return flat, heads if name.split(".")[1] in ("q_proj", "v_proj", "context") else None


def ranks(u):
    return numpy.where(u >> 15, -(u & 0x7fff).astype(numpy.int64), u.astype(numpy.int64))


def lines_of(a, b, what):
    for i, (x, y) in enumerate(zip(a.astype(numpy.float64), b.astype(numpy.float64))):
        yield {what: i, "elements": x.size, "differing": int((x != y).sum()), "failing": 0, "max_abs": abs(x - y).max(),
               "distance": pytest.approx(numpy.sqrt(((x - y) ** 2).sum() / (y ** 2).sum()))}


def test_lines_and_bins(tmp_path):
    r = numpy.random.default_rng(3)
    one = {LAYER + n: bf16(*shape, seed=i) for i, (n, shape) in enumerate(SHAPES.items())}
    two = {n: numpy.where(r.random(a.shape) < .3, a + r.integers(0, 9, a.shape).astype(numpy.uint16), a) for n, a in one.items()}
    files = [write(tmp_path / n, {k: ("BF16", a) for k, a in some.items()}) for n, some in (("a", one), ("b", two))]
    report, _ = compare(*files, "--by", "position,head", "--histogram", status=DIFFERENT)
    assert len(report["rows"]) == len(SHAPES)
    for row in report["rows"]:
        name = row["value"]
        a, b = widen(one[name]), widen(two[name])
        positions, heads = zip(by_hand(name[len(LAYER):], a), by_hand(name[len(LAYER):], b))
        assert row["positions"] == list(lines_of(*positions, "position"))
        assert row.get("heads") == (None if heads[0] is None else list(lines_of(*heads, "head")))
        apart = abs(ranks(one[name]) - ranks(two[name])).ravel()
        assert sum(bin["count"] for bin in row["ulp_histogram"]) == apart.size
        for bin in row["ulp_histogram"]:
            assert bin["count"] == ((apart >= bin["from"]) & (apart <= bin["to"])).sum() > 0
        assert [bin["from"] for bin in row["ulp_histogram"]] == [0, 1, 2, 3, 5]
    bare = compare(*files, status=DIFFERENT)[0]["rows"][0]
    assert not {"positions", "heads", "ulp_histogram"} & set(bare) and bare["growth"]["grows"] is False
    text = samebit("compare", *files, "--by", "head", "--histogram").text
    assert f"{LAYER}self_attn.q_rope by head\nhead" in text and f"{LAYER}self_attn.k_rope by ULP (BF16)\n" in text
    assert "and of 4 more values that differ" in text and "by position" not in text


def test_no_difference_is_one_line(tmp_path):
    a = bf16(T, 64)
    b = a.copy()
    b[7, 3] += 1
    files = [write(tmp_path / n, {"model.norm": ("BF16", x)}) for n, x in (("a", a), ("b", b))]
    text = samebit("compare", *files, "--by", "position", status=DIFFERENT).text
    assert "... 0 to 6: no difference" in text and "... 8 to 19: no difference" in text and "1 of 64" in text


TOKENS = [(37 * i + 11) % 300 + 3 for i in range(40)]


@pytest.fixture(scope="module")
def trace(daemon):
    found = daemon.trace(["*"], accept=BINARY, tokens=TOKENS, attention="eager").tensors
    return {name: widen(array) for name, array in found.items() if name != "tokens"}


def grows(dump, url, tmp_path):
    numpy.savez(tmp_path / "d.npz", tokens=TOKENS, **dump)
    rows = compare(tmp_path / "d.npz", url, "--attention", "eager", status=DIFFERENT)[0]["rows"]
    said = "error grows with position" in samebit("compare", tmp_path / "d.npz", url, "--attention", "eager").text
    found = [row["value"] for row in rows if row.get("growth", {}).get("grows")]
    assert said == bool(found)
    return found


def turned(q, off):
    """Turned by a further off(position, frequency) radians, in halves."""
    half = q.shape[-1] // 2
    angle = off(numpy.arange(q.shape[1])[:, None], 10000.0 ** (-numpy.arange(half) / half))
    x, y = q[..., :half], q[..., half:]
    return numpy.concatenate([x * numpy.cos(angle) - y * numpy.sin(angle), y * numpy.cos(angle) + x * numpy.sin(angle)], -1).astype(numpy.float32)


def test_an_error_that_grows(trace, url, tmp_path):
    rope = LAYER + "self_attn.q_rope"
    assert grows({rope: turned(trace[rope], lambda p, f: 0.002 * p * f)}, url, tmp_path) == [rope]
    assert grows({rope: turned(trace[rope], lambda p, f: p * (f.astype(ml_dtypes.bfloat16).astype(float) - f))}, url, tmp_path) == [rope]


@pytest.mark.parametrize("kind", ["rounding", "f16", "scaled", "one position", "shifted", "sdpa"])
def test_what_does_not_grow(trace, daemon, url, tmp_path, kind):
    r = numpy.random.default_rng(1)
    if kind == "sdpa":
        found = daemon.trace(["*"], accept=BINARY, tokens=TOKENS, attention="sdpa").tensors
        other = {n: widen(a) for n, a in found.items() if n != "tokens"}
    else:
        change = {"rounding": lambda a: a * (1 + r.standard_normal(a.shape) * 2 ** -8), "f16": lambda a: a.astype(numpy.float16),
                  "scaled": lambda a: a * 1.1, "shifted": lambda a: a + 0.1,
                  "one position": lambda a: numpy.concatenate([a[..., :-1, :], a[..., -1:, :] * 2], -2)}[kind]
        other = {n: change(a).astype(numpy.float32) for n, a in trace.items() if "masked" not in n and "weights" not in n and a.ndim > 1}
    assert grows(other, url, tmp_path) == []


def test_wrong_names(tmp_path):
    one = write(tmp_path / "a", {"x": ("BF16", bf16(3))})
    assert "--by rows" in samebit("compare", one, one, "--by", "rows", status=TROUBLE).said
