"""`samebit compare`: files; daemons as one side or both."""
import json
import random
import re
import struct

import numpy
import pytest
import safetensors.numpy
from client_tools import DIFFERENT, META, SAME, TROUBLE, Stub, bf16, compare, digest_reply, samebit, stub_of, trace_of, widen, write


def test_equal_files(tmp_path):
    a = write(tmp_path / "a.safetensors", trace_of(), META)
    b = write(tmp_path / "b.safetensors", trace_of(), META)
    done = samebit("compare", a, b, status=SAME)
    assert "equal bits: 21 values" in done.text and "0 differing" in done.text
    assert "\x1b" not in done.text and done.said == ""
    report, status = compare(a, b)
    assert status == SAME and report["same"] and report["first_divergence"] is None
    assert [r["verdict"] for r in report["rows"]] == ["equal"] * 21
    assert report["rows"][0]["value"] == "tokens"


def test_differences(tmp_path):
    tensors = trace_of()
    a = write(tmp_path / "a.safetensors", tensors, META)
    name = "model.layers.1.self_attn.weights"
    changed = tensors[name][1].copy()
    changed[1, 9] ^= 1
    changed[2, 3] ^= 2
    other = dict(tensors) | {name: ("BF16", changed)}
    other["lm_head"] = ("BF16", tensors["lm_head"][1] ^ 1)
    b = write(tmp_path / "b.safetensors", other, META | {"numerics": "torch-cpu/avx512_bf16"})
    report, status = compare(a, b)
    x, y = widen(tensors[name][1]).astype(float), widen(changed).astype(float)
    row = next(r for r in report["rows"] if r["value"] == name)
    assert status == DIFFERENT and report["first_divergence"] == name
    assert row["verdict"] == "differs" and row["differing"] == 2 and row["elements"] == 192
    assert row["max_ulp"] == 2 and row["ulp_dtype"] == "BF16"
    assert row["max_abs"] == numpy.abs(x - y).max()
    assert row["mean_abs"] == pytest.approx(numpy.abs(x - y).mean(), rel=1e-12)
    cosine = (x * y).sum() / numpy.sqrt((x * x).sum() * (y * y).sum())
    assert row["cosine"] == pytest.approx(cosine, abs=1e-14)
    assert row["first"] == {"index": [1, 9], "a": x[1, 9], "b": y[1, 9]}
    assert report["values_equal"] == 19 and report["elements_differing"] == 2 + 1500
    text = samebit("compare", a, b, status=DIFFERENT).text
    assert f"first divergence: {name} at [1, 9]" in text
    assert "torch-cpu/avx2" in text and "torch-cpu/avx512_bf16" in text
    assert re.search(rf"{name} +differs +2 of 192 ", text)
    assert "values with equal bits" in text
    every = samebit("compare", a, b, "--all", status=DIFFERENT).text
    assert "values with equal bits" not in every and every.count("equal bits") == 19
    only = samebit("compare", a, b, "--only-different", status=DIFFERENT).text
    assert "equal bits" not in only and only.count("differs") == 2
    limited = samebit("compare", a, b, "--all", "--only-different", "--limit", "1").text
    assert limited.count("differs") == 2  # --all is every row
    assert "1 more" in samebit("compare", a, b, "--only-different", "--limit", "1").text
    samebit("compare", a, b, "--values", "model.layers.0.*,step_1/model.*", status=SAME)
    samebit("compare", a, b, "--values", "*weights", status=DIFFERENT)


AMX = META | {"numerics": "torch-cpu/amx_bf16", "torch_threads": "8", "torch_host": "l1=48K,l2=2M,l2_ways=16,amx_fp16=0"}
PORTABLE = META | {"numerics": "torch-cpu/avx512_bf16"}


def rounded(tensors):
    """The same, as another arithmetic would have it: 3 of 192 elements of a value, an ulp off."""
    changed = tensors["model.layers.1.mlp.down_proj"][1].copy()
    changed[0, :3] ^= 1
    return dict(tensors) | {"model.layers.1.mlp.down_proj": ("BF16", changed)}


def first_lines(text):
    """What stands before the rows."""
    return text.split("\nvalue ")[0]


def test_another_arithmetic_is_said_before_all_rows(tmp_path):
    a, b = (write(tmp_path / n, t, m) for n, t, m in (("a", trace_of(), AMX), ("b", rounded(trace_of()), PORTABLE)))
    said = first_lines(samebit("compare", a, b, status=DIFFERENT).text)
    assert re.search(r"another arithmetic: A is torch-cpu/amx_bf16 with 8 threads, B torch-cpu/avx512_bf16: "
                     r"0\.\d+ % of elements differ, by rounding alone\n", said), said
    assert "to make them agree: trace both under one numerics" in said
    report, _ = compare(a, b)
    assert report["another_arithmetic"]["a"] == "torch-cpu/amx_bf16 with 8 threads"
    assert report["another_arithmetic"]["b"] == "torch-cpu/avx512_bf16"
    other = write(tmp_path / "other", trace_of(), PORTABLE | {"weights": "cd" * 32})
    said = samebit("compare", a, other).text
    assert "another arithmetic" in said and "rounding alone" not in said
    for meta in (AMX, PORTABLE):
        same = write(tmp_path / "same", rounded(trace_of()), meta)
        assert "another arithmetic" not in samebit("compare", same, write(tmp_path / "s", trace_of(), meta)).text
        assert "another_arithmetic" not in compare(same, tmp_path / "s")[0]


@pytest.mark.parametrize("one, two, says", [
    (AMX, PORTABLE, "start B with samebitd --numerics torch-cpu/amx_bf16 --torch-threads 8 "
                    "--torch-host l1=48K,l2=2M,l2_ways=16,amx_fp16=0"),
    (PORTABLE, AMX, "start B with samebitd --numerics torch-cpu/avx512_bf16"),
    (PORTABLE, AMX | {"device": "cuda:0"}, "start A with samebitd --numerics torch-cpu/amx_bf16"),
    (AMX, AMX | {"torch_threads": "2"}, "samebit compare --torch-threads 8, or samebitd --torch-threads 8 as B"),
    (AMX, AMX | {"torch_host": "l1=32K,l2=2M,l2_ways=16,amx_fp16=0"}, "start B with samebitd --numerics torch-cpu/amx_bf16 "
     "--torch-threads 8 --torch-host l1=48K,l2=2M,l2_ways=16,amx_fp16=0"),
])
def test_how_two_daemons_come_to_agree(tmp_path, one, two, says):
    with stub_of(tmp_path, "a", trace_of(), one) as a, stub_of(tmp_path, "b", rounded(trace_of()), two) as b:
        said = first_lines(samebit("compare", a.url, b.url, "--tokens", "5,6,7", status=DIFFERENT).text)
        assert f"to make them agree: {says}" in said, said
        file = write(tmp_path / "file", trace_of(), one)
        said = first_lines(samebit("compare", b.url, file, status=DIFFERENT).text)
        assert f"to make them agree: {says.replace(' B ', ' A ').replace('as B', 'as A')}" in said or "cuda" in str(two), said


@pytest.mark.parametrize("x, y, expected", [
    (0x80000000, 0x00000000, {"differing": 1, "max_abs": 0, "max_ulp": 0}),
    (0x7fc00000, 0x7fc00000, None),
    (0x7fc00000, 0x7fc00001, None),
    (0x7fc00000, 0x3f800000, {"differing": 1, "nan_pairs": 1, "max_abs": "NaN", "cosine": "NaN"}),
    (0x7f800000, 0x7f7fffff, {"max_ulp": 1, "max_abs": "Infinity"}),
    (0x7f800000, 0xff800000, {"max_abs": "Infinity", "max_ulp": 2 * 0x7f800000}),
    (0x00000001, 0x80000001, {"max_ulp": 2, "max_abs": 2.0 ** -148}),
    (0x3f800000, 0x3f800001, {"max_ulp": 1, "max_abs": 2.0 ** -23}),
])
def test_bits_of_one_element(tmp_path, x, y, expected):
    sides = [write(tmp_path / n, {"v": ("F32", numpy.array([0x3f800000, bits], numpy.uint32))})
             for n, bits in (("a", x), ("b", y))]
    report, status = compare(*sides)
    assert status == (SAME if expected is None else DIFFERENT)
    for key, value in (expected or {"verdict": "equal"}).items():
        assert report["rows"][0][key] == value, key
    assert samebit("compare", *sides).returncode == status


def test_nans_of_other_bits(tmp_path):
    a, b = (write(tmp_path / n, {"v": ("F32", numpy.array([0x3f800000, *bits, 0x7fc00000], numpy.uint32)), "w": ("BF16", bf16(2))})
            for n, bits in (("a", (0x7fc00000,) * 3), ("b", (0xffff0000, 0x7fc00001, 0xffc00000))))
    report, _ = compare(a, b, status=SAME)
    assert (report["same"], report["elements_differing"], report["nan_of_other_bits"]) == (True, 0, 3)
    assert (report["rows"][0]["verdict"], report["rows"][0]["nan_of_other_bits"]) == ("equal", 3)
    text = samebit("compare", a, b, status=SAME).text
    assert "equal but for bits of NaN: 2 values, 7 elements, 0 differing, 3 NaN of other bits" in text
    assert "note: 3 NaN of other bits, counted as equal" in text and text.count("equal bits") == 1
    report, _ = compare(a, b, "--nan-bits", status=DIFFERENT)
    row = report["rows"][0]
    assert (row["verdict"], row["differing"], row["first"]["index"], row["nan_pairs"], row["max_abs"]) == ("differs", 3, [1], 0, 0)
    assert "3 NaN of other bits, counted as different" in samebit("compare", a, b, "--nan-bits", status=DIFFERENT).text


def test_other_dtypes_shapes_and_orders(tmp_path):
    """A dump as the safetensors package writes it: F32, a batch of one, alphabetical."""
    tensors = trace_of(steps=0)
    a = write(tmp_path / "a.safetensors", tensors, META)
    dump = {name: widen(array)[None] for name, (dtype, array) in tensors.items() if dtype == "BF16"}
    safetensors.numpy.save_file(dump, tmp_path / "hf.safetensors")
    report, status = compare("--common", tmp_path / "hf.safetensors", a)
    assert status == SAME
    assert [r["value"] for r in report["rows"]] == list(dump)  # the order of a
    assert report["rows"][0]["a"]["dtype"] == "F32" and report["rows"][0]["b"]["dtype"] == "BF16"
    text = samebit("compare", "--common", tmp_path / "hf.safetensors", a, status=SAME).text
    assert "batch of one" in text and "compared by value" in text
    missing, status = compare(a, tmp_path / "hf.safetensors")
    assert status == DIFFERENT and missing["rows"][0]["verdict"] == "missing_in_b"
    assert missing["first_divergence"] is None
    dump["lm_head"] = dump["lm_head"][:, :2]
    safetensors.numpy.save_file(dump, tmp_path / "short.safetensors")
    report, status = compare("--common", a, tmp_path / "short.safetensors")
    assert status == DIFFERENT and report["first_divergence"] == "lm_head"
    assert report["rows"][-1]["verdict"] == "shape"


def test_what_is_not_computed_with(tmp_path):
    same = numpy.arange(6, dtype=numpy.float64)
    a = write(tmp_path / "a", {"x": ("F64", same), "y": ("U8", same.astype(numpy.uint8)),
                               "e": ("F32", numpy.zeros((0, 3), numpy.float32))})
    b = write(tmp_path / "b", {"x": ("F64", same), "y": ("U8", same.astype(numpy.uint8)),
                               "e": ("F32", numpy.zeros((0, 3), numpy.float32))})
    samebit("compare", a, b, status=SAME)
    c = write(tmp_path / "c", {"x": ("F64", same + 1), "y": ("I64", same.astype(numpy.int64)),
                               "e": ("F32", numpy.zeros((0, 4), numpy.float32))})
    report, status = compare(a, c)
    assert status == DIFFERENT
    assert [r["verdict"] for r in report["rows"]] == ["differs", "equal", "shape"]  # integers are equal by value
    samebit("compare", a, c, status=DIFFERENT)


def test_tokens_before_floats(tmp_path):
    tensors = trace_of()
    a = write(tmp_path / "a", tensors, META)
    tensors["tokens"] = ("I64", numpy.array([5, 9, 7, 8], numpy.int64))
    tensors["model.layers.0.input_layernorm"] = ("BF16", bf16(3, 64, seed=77))
    b = write(tmp_path / "b", tensors, META)
    report, status = compare(a, b)
    assert status == DIFFERENT and report["first_divergence"] == "tokens"
    text = samebit("compare", a, b).text
    assert "first divergence: tokens at [1]: A 6, B 9" in text and "not the same prompt" in text


def test_aliases(tmp_path):
    a = write(tmp_path / "a", {"model.embed_tokens": ("BF16", bf16(2, 8))},
              META | {"aliases": '{"embedding_output":["model.embed_tokens"]}'})
    b = write(tmp_path / "b", {"embedding_output": ("BF16", bf16(2, 8))})
    samebit("compare", a, b, status=SAME)
    samebit("compare", b, a, status=SAME)


def test_nothing_in_common(tmp_path):
    a = write(tmp_path / "a", {"x": ("BF16", bf16(2))})
    b = write(tmp_path / "b", {"y": ("BF16", bf16(2))})
    assert "in common" in samebit("compare", a, b, status=TROUBLE).said
    assert "--values" in samebit("compare", a, a, "--values", "q*", status=TROUBLE).said


def test_usage():
    assert "compare" in samebit("--help", status=SAME).text
    for command in ("generate", "logits", "values", "trace", "compare", "tokens", "model", "health"):
        assert samebit(command, "--help", status=SAME).text.startswith(f"samebit {command}")
    for wrong in (["frob"], ["compare"], ["compare", "a"], ["compare", "a", "b", "c"],
                  ["compare", "--nonsense", "a", "b"], ["compare", "a", "b", "--limit"],
                  ["compare", "a", "b", "--limit", "-1"], ["compare", "a", "b", "--limit", "1x"],
                  ["compare", "--all=1", "a", "b"], ["trace", "x"], ["trace", "-o", "f"],
                  ["trace", "x", "--tokens", "1", "-o", "f"], ["trace", "--tokens", "1,,2", "-o", "f"],
                  ["trace", "x", "y", "-o", "f"], ["logits", "x", "--full"], ["logits", "x", "-o", "f"],
                  ["trace", "x", "-o", "f", "--replace", "nofile"], ["tokens"],
                  ["trace", "x", "-o", "f", "--replace", "a=/nonexistent"],
                  ["health", "--url", "ftp://x"], ["model", "x"], ["generate", b"\xff".decode("latin1"), "-n"]):
        samebit(*wrong, status=TROUBLE)


def malformed(rng, good):
    """One way of breaking a good file a trace reader must see."""
    size = struct.unpack("<Q", good[:8])[0]
    header, data = json.loads(good[8:8 + size]), good[8 + size:]
    names = [n for n in header if n != "__metadata__"]
    one = header[rng.choice(names)]
    kind = rng.randrange(16)
    if kind == 0:
        return good[:rng.randrange(len(good))]
    if kind == 1:
        return struct.pack("<Q", rng.choice([0, 1, len(good), 2 ** 63, 2 ** 64 - 1, size + 8])) + good[8:]
    if kind == 2:
        at = rng.randrange(8, 8 + size)
        return good[:at] + bytes([rng.choice([0, 0x22, 0x7b, 0xff, 0xc0])]) + good[at + 1:] + b"?"
    if kind == 3:
        one["shape"] = [rng.choice([-1, 2 ** 62, 3.5, "x", None]), 2]
    elif kind == 4:
        one["dtype"] = rng.choice(["BF17", "", 3, None, "bf16", "F" * 40])
    elif kind == 5:
        one["data_offsets"] = rng.choice([[0], [5, 2], [0, 2 ** 63], [-4, 4], "x", [0, 1, 2], [1.5, 3]])
    elif kind == 6:
        one["data_offsets"] = [one["data_offsets"][0] + 2, one["data_offsets"][1] + 2]
    elif kind == 7:
        del one[rng.choice(["dtype", "shape", "data_offsets"])]
    elif kind == 8:
        data += b"\0" * rng.randrange(1, 9)
    elif kind == 9:
        data = data[:-rng.randrange(1, 9)]
    elif kind == 10:
        header["__metadata__"] = rng.choice([[], 3, {"a": 1}, {"a": {"b": "c"}}, "x"])
    elif kind == 11:
        return good[:8] + b"[" + good[9:]
    elif kind == 12:
        first, second = rng.sample(names, 2)
        header[first]["data_offsets"] = header[second]["data_offsets"]
    elif kind == 13:
        name = rng.choice(names)
        text = json.dumps(header)[:-1] + "," + json.dumps(name) + ":" + json.dumps(header[name]) + "}"
        return struct.pack("<Q", len(text)) + text.encode() + data
    elif kind == 14:
        header[rng.choice(names)] = rng.choice([[], None, 3, "x"])
    else:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_malformed_files(tmp_path):
    good = write(tmp_path / "good", trace_of(layers=1), META)
    whole = good.read_bytes()
    bad = tmp_path / "bad.safetensors"
    rng = random.Random(1)
    for i in range(300):
        bad.write_bytes(malformed(rng, whole))
        done = samebit("compare", *((bad, good) if i % 2 else (good, bad)), status=TROUBLE)
        assert "bad.safetensors" in done.said and done.text == "", (i, done.said)
    for wrong in (tmp_path, tmp_path / "none", "/dev/null"):
        assert str(wrong) in samebit("compare", good, wrong, status=TROUBLE).said


def test_odd_metadata(tmp_path):
    """Metadata may say anything; a comparison does not lean on it."""
    for n, aliases in enumerate(("{", "[]", "3", '{"x": 3}', '{"x": ["y", "z"]}', '{"x": ["x"]}', "")):
        for tokens in ("", "[", "1,2", "[1, \"x\"]", "x,y", "[[1]]", "1," * 9):
            a = write(tmp_path / f"a{n}", trace_of(layers=1), META | {"aliases": aliases, "prompt_tokens": tokens})
            samebit("compare", a, a, status=SAME)


def test_full_output(tmp_path):
    a = write(tmp_path / "a", trace_of(), META)
    with open("/dev/full", "wb") as full:
        for extra in ([], ["--json"]):
            assert "standard output" in samebit("compare", a, a, *extra, stdout=full, status=TROUBLE).said


# ---------------------------------------------------------------------------------------------
# daemons

def test_two_daemons(tmp_path):
    tensors = trace_of()
    other = dict(tensors)
    other["model.layers.1.mlp.down_proj"] = ("BF16", bf16(3, 64, seed=5))
    other["step_1/lm_head"] = ("BF16", bf16(1, 500, seed=5))
    with stub_of(tmp_path, "a", tensors) as a, stub_of(tmp_path, "b", other) as b:
        report, status = compare(a.url, b.url, "--prompt", "hi", "--steps", "1")
        assert status == DIFFERENT and report["first_divergence"] == "model.layers.1.mlp.down_proj"
        assert [r["verdict"] for r in report["rows"]].count("differs") == 2
        for stub in (a, b):  # digests of everything, then the numbers of what differs
            assert [json.loads(r[3]).get("format") for r in stub.asked] == ["digest", None]
            assert json.loads(stub.asked[1][3])["values"] == ["model.layers.1.mlp.down_proj", "step_1/lm_head"]
        row = next(r for r in report["rows"] if r["value"] == "step_1/lm_head")
        assert row["differing"] == int((other["step_1/lm_head"][1] != tensors["step_1/lm_head"][1]).sum())
        report, status = compare(a.url, a.url, "--prompt", "hi")
        assert status == SAME and len(report["rows"]) == 21
        assert "prompt" in samebit("compare", a.url, b.url, status=TROUBLE).said


def test_two_daemons_with_other_ids(tmp_path):
    tensors = trace_of()
    other = dict(tensors) | {"tokens": ("I64", numpy.array([5, 60, 7, 8], numpy.int64)),
                             "lm_head": ("BF16", bf16(3, 500, seed=5))}
    with stub_of(tmp_path, "a", tensors) as a, stub_of(tmp_path, "b", other) as b:
        report, status = compare(a.url, b.url, "--prompt", "hi")
        assert status == DIFFERENT and report["first_divergence"] == "tokens"
        assert len(b.asked) == 1  # no float was worth its transfer


def test_file_and_daemon(tmp_path):
    tensors = trace_of()
    path = write(tmp_path / "file", dict(tensors) | {"unknown": ("BF16", bf16(3))}, META)
    served = dict(tensors)
    with stub_of(tmp_path, "a", served) as stub:
        report, status = compare(path, stub.url)
        assert status == DIFFERENT and [r["verdict"] for r in report["rows"]].count("missing_in_b") == 1
        asked = json.loads(stub.asked[-1][3])
        assert asked["tokens"] == [5, 6, 7] and asked["steps"] == 1
        assert "unknown" not in asked["values"] and "tokens" not in asked["values"]
        assert not any(v.startswith("step_") for v in asked["values"])
        assert asked["attention"] == "eager" and stub.asked[0][1] == "/v1/values?attention=eager"
        samebit("compare", "--common", stub.url, path, status=SAME)
        served["lm_head"] = ("BF16", bf16(3, 500, seed=5))
        report, status = compare(stub.url, path)
        assert status == DIFFERENT and report["first_divergence"] == "lm_head"
        no_ids = write(tmp_path / "none", {"lm_head": tensors["lm_head"]})
        assert "--tokens" in samebit("compare", no_ids, stub.url, status=TROUBLE).said
        samebit("compare", "--common", no_ids, stub.url, "--tokens", "5,6,7", status=DIFFERENT)
        nothing = write(tmp_path / "nothing", {"zzz": tensors["lm_head"]}, META)
        assert "none of its names" in samebit("compare", nothing, stub.url, status=TROUBLE).said


def test_a_file_says_how_it_was_asked(tmp_path):
    """Its attention, positions, padding and chunks are asked of the daemon, unless others are given."""
    tensors = {f"chunk_{i}/{name}": ("BF16", bf16(1, 8, seed=i)) for i in (1, 2)
               for name in ("lm_head", "model.norm")}
    tensors |= {"tokens": ("I64", numpy.array([5, 6, 7], numpy.int64)), "step_1/lm_head": ("BF16", bf16(1, 8, seed=9))}
    del tensors["chunk_1/model.norm"]
    said = META | {"attention": "sdpa", "positions": "last", "padding": "1", "batch": "2", "chunks": "[2, 1]"}
    path = write(tmp_path / "file", tensors, said)
    listed = write(tmp_path / "listed", {"lm_head": ("BF16", bf16(2, 8))}, META | {"positions": "[0, 2]"})
    with stub_of(tmp_path, "a", {"lm_head": 0, "model.norm": 0} | tensors) as stub:
        def asked(*arguments):
            samebit("compare", *arguments, timeout=20)
            queries = [r[1] for r in stub.asked if r[0] == "GET"]
            return queries[-1], json.loads([r[3] for r in stub.asked if r[0] == "POST"][-1])

        stub.answer = lambda h, body, whole=stub.answer: whole(h, body) if h.command == "GET" else h.reply(
            500, {"error": {"message": "m"}})
        query, body = asked(path, stub.url)
        assert query == "/v1/values?attention=sdpa"
        assert sorted(body.pop("values")) == ["chunk_2/model.norm", "lm_head"]
        assert body == {"tokens": [5, 6, 7], "steps": 1, "attention": "sdpa", "positions": "last", "padding": 1,
                        "batch": 2, "chunks": [2, 1]}
        query, body = asked(stub.url, path, "--attention", "eager")
        assert query == "/v1/values?attention=eager" and body["attention"] == "eager" and body["chunks"] == [2, 1]
        query, body = asked(path, stub.url, "--tokens", "1,2", "--chunks", "1,1", "--padding", "1", "--batch", "3")
        assert set(body) == {"tokens", "steps", "attention", "padding", "batch", "chunks", "values"}
        assert body["tokens"] == [1, 2] and body["chunks"] == [1, 1] and body["attention"] == "sdpa"
        assert asked(listed, stub.url)[1]["positions"] == [0, 2]
    for option in (["--attention", "sdpa"], ["--chunks", "1,2"], ["--padding", "1"], ["--batch", "2"]):
        assert "for daemons" in samebit("compare", path, listed, *option, status=TROUBLE).said
    no_ids = write(tmp_path / "no_ids", {"lm_head": ("BF16", bf16(2, 8))})
    for option in (["--chunks", "1,2"], ["--padding", "1"], ["--batch", "2"]):
        assert "--prompt" in samebit("compare", no_ids, "http://127.0.0.1:9", *option, status=TROUBLE).said


def test_two_daemons_of_other_attention(tmp_path):
    tensors = trace_of()
    other = dict(tensors) | {"lm_head": ("BF16", bf16(3, 500, seed=5))}
    with stub_of(tmp_path, "a", tensors) as a, stub_of(tmp_path, "b", other, META | {"attention": "sdpa"}) as b:
        text = samebit("compare", a.url, b.url, "--prompt", "hi", status=DIFFERENT).text
        assert re.search(r"^  attention +A eager\n +B sdpa$", text, re.M), text
        assert "attention" not in json.loads(a.asked[0][3])
        samebit("compare", a.url, b.url, "--prompt", "hi", "--attention", "eager", status=DIFFERENT)
        assert json.loads(a.asked[-1][3])["attention"] == json.loads(b.asked[-1][3])["attention"] == "eager"


def test_daemon_breaks_off_in_a_comparison(tmp_path):
    path = write(tmp_path / "file", trace_of(), META)
    body = path.read_bytes()

    def answer(handler, asked):
        if handler.path.startswith("/v1/values"):
            handler.reply(200, {"values": [{"name": "lm_head", "aliases": []}]})
        else:
            handler.reply(200, body[:3000], "application/octet-stream", len(body))

    with Stub(answer) as stub:
        assert "broke off" in samebit("compare", path, stub.url, status=TROUBLE).said


@pytest.mark.parametrize("shape, fits", [([2 ** 63 - 1, 3], False), ([2 ** 62, 0, 2 ** 62], False), ([-1, 2], False), ([2, 0], True)])
def test_digests_of_impossible_shapes(tmp_path, shape, fits):
    """From a daemon that is not to be trusted."""
    digests = digest_reply(write(tmp_path / "a", trace_of(), META).read_bytes(), ["*"])
    digests["values"]["lm_head"]["shape"] = shape

    def answer(handler, asked):
        if handler.command == "GET":
            handler.reply(200, json.dumps({"values": [], "status": "ok"} | META).encode())
        else:
            handler.reply(200, json.dumps(digests).encode())

    with Stub(answer) as stub:
        done = samebit("compare", stub.url, stub.url, "--prompt", "a", status=None)
    assert ("a shape that no value has" in done.said) == (not fits), done.said


def test_an_empty_value_of_giant_extents(tmp_path):
    """Its elements are none; the product of its other extents fits no integer."""
    header = json.dumps({"x": {"dtype": "BF16", "shape": [0, 2 ** 63 - 1, 2 ** 63 - 1], "data_offsets": [0, 0]},
                         "y": {"dtype": "BF16", "shape": [2 ** 63 - 1, 2 ** 63 - 1, 0], "data_offsets": [0, 0]}}).encode()
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    assert samebit("compare", file, file, status=None).returncode in (SAME, TROUBLE)
