"""Folders as people have them, whose configuration or checkpoint is the matter: tests/cases/field/{cfg,file,gen}_*.

expected.json holds the values of PyTorch 2.13.0 with transformers 5.18.0 (eager, bf16, AVX512_BF16)."""
import hashlib
import json
import os
import shutil
import subprocess

import numpy
import pytest

from conftest import BINARY, ROOT, SAMEBITD, Daemon

CASES = os.path.join(ROOT, "tests", "cases", "field")
EQUAL = [name for name in sorted(os.listdir(CASES)) if name.startswith(("cfg_", "file_", "gen_"))
         and name not in ("file_lfs_pointer", "file_pytorch_bin_only")]
VALUES = ["lm_head", "step_1/lm_head", "step_2/lm_head"]
GENERATED = "model.generate(do_sample=False, max_new_tokens=10)"


def expected(name):
    with open(os.path.join(CASES, name, "expected.json"), encoding="utf-8") as file:
        return json.load(file)


@pytest.fixture
def serve():
    """serve(folder): a daemon of the test's own, eager by default."""
    running = []

    def starter(folder):
        running.append(Daemon(folder, None, ("--attention", "eager")))
        return running[-1]

    yield starter
    for d in running:
        d.stop()


def digests(d, tokens):
    reply = d.post("/v1/trace", {"tokens": tokens, "steps": 2, "values": ["lm_head"], "format": "digest"}).json
    return [reply["values"][name]["sha256"] for name in VALUES], reply


def refusal(folder):
    """What the daemon says of a folder that it does not open."""
    done = subprocess.run([SAMEBITD, "--model", folder, "--listen", "127.0.0.1:0"], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("name", EQUAL)
def test_values_are_those_of_pytorch(serve, name):
    want = expected(name)
    got, reply = digests(serve(os.path.join(CASES, name)), want["ids"])
    assert got == [want[f"sha256 {value}"] for value in VALUES]
    assert ("notice" in reply) == (name == "cfg_prompt_longer_than_max_positions")


def test_a_long_prompt_is_noticed_everywhere(serve):
    d = serve(os.path.join(CASES, "cfg_prompt_longer_than_max_positions"))
    body = {"tokens": [5, 17, 260, 33, 9], "values": ["lm_head"]}
    said = "max_position_embeddings of 4"
    assert said in d.post("/v1/trace", body).json["notice"]
    assert said in d.post("/v1/trace", body, accept=BINARY).metadata["notice"]
    assert said in d.post("/v1/generate", {"tokens": [5, 17, 260, 33, 9]}).json["notice"]
    assert "notice" not in d.post("/v1/trace", body | {"tokens": [5]}).json


def test_a_git_lfs_pointer_is_named():
    assert "model.safetensors: a git-lfs pointer, not the file itself: run `git lfs pull`" in refusal(
        os.path.join(CASES, "file_lfs_pointer"))


def test_a_pickle_is_refused_with_the_line_that_converts_it():
    said = refusal(os.path.join(CASES, "file_pytorch_bin_only"))
    assert "pytorch_model.bin" in said and "save_pretrained('.')" in said


# ---- variants of these kinds ----

def variant(tmp_path, name, config=None, **files):
    """A copy of a case with keys of config.json replaced, or files written."""
    folder = tmp_path / "model"
    shutil.copytree(os.path.join(CASES, name), folder, copy_function=shutil.copyfile)
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(said | (config or {})), encoding="utf-8")
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text, encoding="utf-8")
    return str(folder)


def notices(d):
    found = "\n".join(d.get("/v1/model").json["notices"])
    assert all(line in d.said() for line in found.splitlines())
    return found


@pytest.mark.parametrize("config, notice", [
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: not followed, as by transformers 5.18: LlamaForCausalLM turns all pairs"),
    ({"rope_scaling": []}, ""), ({"rope_scaling": False, "rope_parameters": None}, ""), ({"attention_chunk_size": None, "is_causal": True}, ""),
    ({"sliding_window": 4096, "layer_types": ["full_attention"] * 2}, ""),
    ({"sliding_window": 4096}, "no mask of LlamaForCausalLM follows it, but the cache keeps the last 4095 keys")])
def test_keys_that_change_nothing(serve, tmp_path, config, notice):
    want = expected("cfg_no_architectures")
    d = serve(variant(tmp_path, "cfg_no_architectures", config))
    assert digests(d, want["ids"])[0] == [want[f"sha256 {value}"] for value in VALUES]
    assert notice in notices(d)


@pytest.mark.parametrize("factor, says", [(1.0, None), (1.2345, "cos and sin are multiplied by 1.23450005"), (None, None)])
def test_a_scale_of_rope_that_was_not_compared(serve, tmp_path, factor, says):
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "attention_factor": factor}
    found = notices(serve(variant(tmp_path, "cfg_no_architectures", {"max_position_embeddings": 32768, "rope_scaling": rope})))
    assert says in found and "the first at position" in found if says else "cos and sin" not in found


def test_a_cache_that_slides_where_no_mask_does(serve, tmp_path):
    """transformers' DynamicCache goes by sliding_window, or attention_chunk_size, where the class has no window: the prompt sees
    all of itself, a later call only the keys that are kept."""
    want = expected("cfg_no_architectures")
    d = serve(variant(tmp_path, "cfg_no_architectures", {"attention_chunk_size": 3}))
    found, _ = digests(d, want["ids"])
    assert found[0] == want["sha256 lm_head"] and found[1] != want["sha256 step_1/lm_head"]
    shape = {v["name"]: v["shape"] for v in d.get("/v1/values?attention=eager").json["values"]}
    assert shape["model.layers.0.self_attn.keys"][1] == "min(L, 3)"


@pytest.mark.parametrize("config, says", [
    ({"is_causal": False}, "config.json: is_causal: attention to tokens that come later is not supported"),
    ({"num_kv_shared_layers": 1}, "num_kv_shared_layers: is not supported"),
    ({"per_layer_config": {"0": {"num_attention_heads": 1}}}, "per_layer_config: is not supported"),
    ({"partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear", "factor": 2.0}}, "only 1 is supported with rope_type linear")])
def test_keys_that_must_not_be_ignored(tmp_path, config, says):
    assert says in refusal(variant(tmp_path, "cfg_no_architectures", config))


def test_tensors_that_are_not_used(serve, tmp_path):
    """A config.json with fewer layers than the checkpoint: transformers warns too."""
    d = serve(variant(tmp_path, "cfg_no_architectures", {"num_hidden_layers": 1}))
    assert "9 of 21 tensors of the checkpoint are not used, as 'model.layers.1.input_layernorm.weight'" in notices(d)


def test_a_broken_generation_config_is_noticed(serve, tmp_path):
    d = serve(variant(tmp_path, "cfg_no_architectures", generation_config__json="{"))
    assert "generation_config.json: not followed, as it cannot be read" in notices(d)


def test_weights_of_another_name(tmp_path):
    folder = variant(tmp_path, "cfg_no_architectures")
    os.rename(os.path.join(folder, "model.safetensors"), os.path.join(folder, "consolidated.safetensors"))
    assert "what is there, consolidated.safetensors, has not the name" in refusal(folder)


def test_the_root_of_a_cache_entry(serve, tmp_path):
    """The layout of huggingface_hub: files are links into blobs/."""
    name = "cfg_no_architectures"
    snapshot = tmp_path / "models--org--some-model" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "blobs").mkdir()
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123abcd")
    for file in os.listdir(os.path.join(CASES, name)):
        shutil.copy(os.path.join(CASES, name, file), snapshot.parents[1] / "blobs" / file)
        (snapshot / file).symlink_to(os.path.join("..", "..", "blobs", file))
    d = serve(str(snapshot.parents[1]))
    want = expected(name)
    assert digests(d, want["ids"])[0] == [want[f"sha256 {value}"] for value in VALUES]
    assert d.get("/v1/model").json["model"] == "org/some-model"


# ---- left padding ----

@pytest.fixture(scope="module")
def padded():
    d = Daemon(os.path.join(CASES, "pad_left_generate"), None, ("--attention", "eager"))
    yield d
    d.stop()


def padded_row(d, **fields):
    """The last row of logits of the padded row of a batch of two."""
    want = expected("pad_left_generate")
    body = {"tokens": want["tokens of row 2"], "padding": want["padding"], "batch": want["batch"], "values": ["lm_head"],
            "positions": "last", **fields}
    return d.post("/v1/trace", body, accept=BINARY)


def test_positions_of_a_padded_row_are_those_of_generate(padded):
    """model.generate() makes position_ids of the mask; model(input_ids, attention_mask) does not."""
    want = expected("pad_left_generate")
    reply = padded_row(padded, position_ids="mask")
    logits = reply.tensors["lm_head"]
    assert hashlib.sha256(logits.tobytes()).hexdigest() == want["sha256 of generate() first logits"]
    assert reply.metadata["position_ids"] == "mask"
    other = (padded_row(padded).tensors["lm_head"].astype(numpy.uint32) << 16).view(numpy.float32)
    assert other[0, :4].tolist() == want["model(ids, mask) last row [:4], which padding: 3 gives today"]


def test_runs_that_count_positions_otherwise_share_nothing(padded):
    """Three times, so that caches of runs before are met."""
    for _ in range(3):
        rows = [padded_row(padded, position_ids=kind, steps=2).body for kind in ("mask", "arange")]
        assert rows[0] != rows[1]
    assert padded_row(padded, position_ids="arange").tensors["lm_head"].tobytes() == \
        padded_row(padded).tensors["lm_head"].tobytes()


def test_without_padding_position_ids_change_nothing(padded):
    body = {"tokens": [5, 17, 260], "values": ["lm_head"], "format": "digest"}
    plain, masked = (padded.post("/v1/trace", body | more).json["values"] for more in ({}, {"position_ids": "mask"}))
    assert plain == masked


@pytest.mark.parametrize("value", ["masked", 1, [0, 1]])
def test_bad_position_ids(padded, value):
    assert padded_row(padded, position_ids=value).error[:2] == (400, "position_ids")


# ---- generate, as transformers' generate does it ----

@pytest.fixture(scope="module")
def penalized():
    """A model whose generation_config.json says repetition_penalty 1.1, and do_sample."""
    d = Daemon(os.path.join(CASES, "gen_repetition_penalty"), None, ("--attention", "eager"))
    yield d
    d.stop()


def generate(d, **fields):
    ids = expected("gen_repetition_penalty")["ids"]
    return d.post("/v1/generate", {"tokens": ids, "max_tokens": 10, "stop_at_eos": False, **fields})


def test_generation_config_json_is_followed(penalized):
    reply = generate(penalized).json
    assert reply["tokens"] == expected("gen_repetition_penalty")[GENERATED]
    assert reply["generation_config"] == {"repetition_penalty": 1.1}


def test_a_request_goes_before_generation_config_json(penalized):
    plain = generate(penalized, repetition_penalty=1.0).json
    assert plain["tokens"] != expected("gen_repetition_penalty")[GENERATED]
    assert generate(penalized, repetition_penalty=None).json["tokens"] == plain["tokens"]
    assert plain["generation_config"] == {"repetition_penalty": 1.0}


def test_forbidden_tokens_are_not_chosen(penalized):
    first = generate(penalized).json["tokens"]
    other = generate(penalized, suppress_tokens=first[:1]).json["tokens"]
    assert first[0] not in other
    assert generate(penalized, begin_suppress_tokens=first[:1]).json["tokens"][0] == other[0]
    assert generate(penalized, forced_eos_token_id=7).json["tokens"][-1] == 7


def test_no_bigram_comes_twice(penalized):
    reply = generate(penalized, repetition_penalty=1.0, no_repeat_ngram_size=2, max_tokens=60).json
    text = reply["prompt_tokens"] + reply["tokens"]
    assert len(set(zip(text, text[1:]))) == len(text) - 1


def test_a_seed_gives_the_same_text(penalized):
    fields = {"do_sample": True, "temperature": 1.5, "top_k": 0, "top_p": 1.0, "max_tokens": 20}
    texts = [generate(penalized, **fields, seed=seed).json["tokens"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert generate(penalized, do_sample=True, top_k=1, seed=5).json["tokens"] == generate(penalized).json["tokens"]


@pytest.mark.parametrize("field, value, says", [
    ("num_beams", 4, "not supported"), ("penalty_alpha", 0.6, "not supported"), ("guidance_scale", 1.5, "not supported"),
    ("repetition_penalty", 0, "not a number above 0"), ("repetition_penalty", "1.1", "not a number above 0"),
    ("top_p", 1.5, "not a number from 0 to 1"), ("top_k", -1, "not a whole number from 0"),
    ("suppress_tokens", [100000], "token id 100000 is not in 0..319"), ("suppress_tokens", [-1], "not a token id"),
    ("bad_words_ids", [], "not a list of"), ("bad_words_ids", [[]], "not a list of lists"),
    ("do_sample", 1, "not true or false"), ("seed", -1, ""), ("exponential_decay_length_penalty", [1], "not a pair")])
def test_bad_fields(penalized, field, value, says):
    status, param, message = generate(penalized, **{field: value}).error
    assert (status, param) == (400, field) and says in message


def test_nothing_to_draw(penalized):
    """torch.multinomial fails there, and argmax does not."""
    fields = {"suppress_tokens": list(range(320)), "max_tokens": 3}
    assert generate(penalized, **fields).json["tokens"] == [0, 0, 0]
    status, _, message = generate(penalized, **fields, do_sample=True).error
    assert status == 400 and "token 1: none has a probability" in message


@pytest.mark.parametrize("said, param", [
    ({"temperature": 0.0, "top_p": 2.0, "top_k": -1}, None), ({"begin_suppress_tokens": [220, 50256]}, None),
    ({"suppress_tokens": [100000]}, None), ({"cache_implementation": "dynamic", "encoder_repetition_penalty": 1.0}, None),
    ({"encoder_repetition_penalty": 1.3}, "encoder_repetition_penalty"), ({"encoder_no_repeat_ngram_size": 2}, "encoder_no_repeat_ngram_size"),
    ({"cache_implementation": "static"}, "cache_implementation"), ({"prefill_chunk_size": 2}, "prefill_chunk_size")])
def test_keys_of_generation_config_json(serve, tmp_path, said, param):
    """What matters to sampling alone, and ids beyond the vocabulary, change nothing there; what would change is refused."""
    d = serve(variant(tmp_path, "gen_repetition_penalty", generation_config__json=json.dumps({"repetition_penalty": 1.1} | said)))
    if param:
        status, where, message = generate(d).error
        assert (status, where) == (400, "generation_config.json") and f"{param}: not supported" in message
        assert generate(d, **{param: None}).status == 200
    else:
        assert generate(d).json["tokens"] == expected("gen_repetition_penalty")[GENERATED]
    if "temperature" in said:
        assert generate(d, do_sample=True).error[:2] == (400, "generation_config.json")


def test_a_file_that_asks_for_beams_is_not_ignored(serve, tmp_path):
    folder = tmp_path / "beams"
    shutil.copytree(os.path.join(CASES, "gen_repetition_penalty"), folder)
    (folder / "generation_config.json").chmod(0o644)
    (folder / "generation_config.json").write_text('{"num_beams": 4}')
    d = serve(str(folder))
    assert generate(d).error == (400, "generation_config.json",
                                 "generation_config.json: num_beams: not supported; a null in the request says to do "
                                 "without")
    assert generate(d, num_beams=None).status == 200


def test_without_a_generation_config_the_keys_of_config_count(serve, penalized, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(os.path.join(CASES, "gen_repetition_penalty"), folder)
    for name in ("config.json", "generation_config.json"):
        (folder / name).chmod(0o644)
    keys = json.loads((folder / "generation_config.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys, "encoder_repetition_penalty": 2.0}))
    (folder / "generation_config.json").unlink()
    d = serve(str(folder))
    assert generate(d).error[:2] == (400, "config.json")
    reply = generate(d, encoder_repetition_penalty=None).json
    assert reply["tokens"] == generate(penalized).json["tokens"]
    assert reply["generation_config"] == generate(penalized).json["generation_config"] != {}
