"""tokenizer.json files in SentencePiece's manner and other arrangements that are not byte-level.

Their vocabulary is Qwen2's first ranks (tokenizers_made.py) written as text: tokens that are no whole characters
are left out, a space is the meta symbol.  Each kind is what some family or class of tokenizers does."""
import base64
import math
import struct

from tokenizers_made import added, begin, byte_characters, byte_level, sequence, split

META = "\u2581"
EXTRA = "".join(map(chr, range(32, 127))) + "\n\t\u00e9\u00e8\u00fc\u00df\u0438\u0430\u4e00\u7684\u3042\u304b\u3099\u0301\u0930\u092e\u20ac\u2026"


def as_text(words, space=META):
    """Tokens (most frequent first) and merges of a vocabulary() result, as text."""
    letters = {c: b for b, c in byte_characters().items()}

    def text(token):
        try:
            return bytes(letters[c] for c in token).decode().replace(" ", space)
        except UnicodeDecodeError:
            return None

    vocab, merges = words
    tokens = list(dict.fromkeys([*EXTRA.replace(" ", space), *(t for t in map(text, vocab) if t and "\0" not in t)]))
    known = set(tokens)
    pairs = [[text(a), text(b)] for a, b in merges]
    return tokens, [p for p in pairs if all(p) and {*p, "".join(p)} <= known]


def charsmap(entries):
    """SentencePiece's precompiled_charsmap of {text: what it becomes}: a double array, then the texts."""
    texts, offsets = b"", {}
    for value in dict.fromkeys(entries.values()):
        offsets[value] = len(texts)
        texts += value.encode() + b"\0"
    units, used = [0] * 256, {0}

    def place(node, at):
        """Lays out the children of a node whose unit is at `at`; keys are bytes, None is the value."""
        base = 1
        slots = sorted(0 if b is None else b for b in node)
        while any((at ^ base ^ b) in used or at ^ base ^ b == 0 for b in slots) or base >= 1 << 21:
            base += 1
        units[at] |= base << 10
        for b in slots:
            used.add(at ^ base ^ b)
            units.extend([0] * (max(0, (at ^ base | 255) + 1 - len(units))))
        for b, child in node.items():
            where = at ^ base ^ (b or 0)
            units[where] = child if b is None else b
            if b is not None and None in child:
                units[where] |= 1 << 8
        for b, child in node.items():
            if b is not None:
                place(child, at ^ base ^ b)

    root = {}
    for key, value in entries.items():
        node = root
        for b in key.encode():
            node = node.setdefault(b, {})
        node[None] = offsets[value]
    place(root, 0)
    array = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(array)) + array + texts).decode()


CHARSMAP = {"\t": " ", "\n": " ", "\r": " ", "\x01": "", "\x7f": "", "\u00ad": "", "\u200b": " ", "\u3000": " ", "\ufeff": "",
            "\u00a0": " ", "\ufb01": "fi", "\u2460": "1", "\uff21": "A", "\u00bd": "1\u20442", "e\u0301": "\u00e9", "\u212b": "\u00c5",
            "\u304b\u3099": "\u304c", "\u2026": "...", "\u1e9b\u0323": "\u1e69", "a": "a", "\u0301": "\u0301", "\u00a9": "(c)", "x\u0323\u0301": "y"}
BYTES = [f"<0x{b:02X}>" for b in range(256)]
REPLACE = {"type": "Replace", "pattern": {"String": META}, "content": " "}
FALLBACK, FUSE = {"type": "ByteFallback"}, {"type": "Fuse"}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
SPECIAL = [added("<unk>"), added("<s>"), added("</s>")]


def metaspace(scheme="always", splits=True):
    return {"type": "Metaspace", "replacement": META, "prepend_scheme": scheme, "split": splits}


def prepend(text=META):
    return {"type": "Prepend", "prepend": text}


def replace(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


LLAMA = dict(normalizer=sequence("normalizers", prepend(), replace(" ", META)), pre_tokenizer=None, bytes=True,
             model=dict(fuse_unk=True, byte_fallback=True, unk_token="<unk>"), tokens=SPECIAL, post="<s>",
             decoder=sequence("decoders", REPLACE, FALLBACK, FUSE, STRIP))
KINDS = {
    "llama2": LLAMA,
    "phi3": LLAMA | dict(tokens=[*SPECIAL[:2], added("</s>", normalized=True, rstrip=True), added("<|user|>", rstrip=True), added("<|end|>", rstrip=True)]),
    "no-unknown": LLAMA | dict(model=dict(byte_fallback=True)),
    "half-the-bytes": LLAMA | dict(model=dict(byte_fallback=True, unk_token="<unk>"), bytes=BYTES[:0xC4] + BYTES[0xE1:]),
    "unfused": LLAMA | dict(model=dict(unk_token="<unk>")),
    "fused": LLAMA | dict(model=dict(unk_token="<unk>", fuse_unk=True)),
    "metaspace-first": LLAMA | dict(normalizer=None, pre_tokenizer=metaspace("first", False)),
    "metaspace-always": LLAMA | dict(normalizer=None, pre_tokenizer=metaspace(), decoder=metaspace()),
    "metaspace-never": LLAMA | dict(normalizer=None, pre_tokenizer=metaspace("never"), decoder=metaspace("never")),
    "metaspace-old": LLAMA | dict(normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": META, "add_prefix_space": True}),
    "first-after-much": LLAMA | dict(  # where a piece began decides, through all of these
        normalizer=sequence("normalizers", {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "NFKD"}, {"type": "StripAccents"},
                            replace("aa", "b"), replace("^x", "", "Regex"), {"type": "Lowercase"}),
        pre_tokenizer=sequence("pretokenizers", split("[0-9]|b", "MergedWithNext"), metaspace("first"))),
    "first-after-prepend": LLAMA | dict(normalizer=sequence("normalizers", prepend("ab"), {"type": "Nmt"}),
                                        pre_tokenizer=sequence("pretokenizers", split("a", "MergedWithPrevious"), metaspace("first", False))),
    "gemma": LLAMA | dict(normalizer=replace(" ", META), pre_tokenizer=split(" ", "MergedWithPrevious", kind="String"), decoder=sequence("decoders", REPLACE, FALLBACK, FUSE)),
    "yi": LLAMA | dict(normalizer=sequence("normalizers", replace(" ", META)), model=dict(LLAMA["model"], ignore_merges=True)),
    "t5": dict(unigram=True, unknown=0, normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(CHARSMAP)},
               pre_tokenizer=sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace()), tokens=SPECIAL, post=None, decoder=metaspace()),
    "xlnet": dict(unigram=True, unknown=0, tokens=SPECIAL, post="<s>", normalizer=sequence(
        "normalizers", replace("``", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
        {"type": "Precompiled", "precompiled_charsmap": charsmap(CHARSMAP)}, replace(" {2,}", " ", "Regex")),
        pre_tokenizer=metaspace(), decoder=metaspace()),
    "unigram-bytes": dict(unigram=True, unknown=0, bytes=True, normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(CHARSMAP)},
                          pre_tokenizer=metaspace("first"), tokens=SPECIAL, post=None, decoder=sequence("decoders", FALLBACK, metaspace("first"))),
    "unigram-twice": dict(unigram=True, unknown=2, twice=True, normalizer=None, pre_tokenizer=metaspace("never", False), tokens=SPECIAL, post=None, decoder=REPLACE),
    "words": dict(normalizer={"type": "StripAccents"}, space="_", model=dict(unk_token="<unk>"), tokens=SPECIAL, post=None,
                  pre_tokenizer=sequence("pretokenizers", {"type": "Whitespace"}, {"type": "Punctuation", "behavior": "MergedWithPrevious"},
                                         {"type": "Digits", "individual_digits": True}), decoder=None),
    "suffix": dict(normalizer={"type": "Lowercase"}, model=dict(unk_token="<unk>", end_of_word_suffix="</w>"), dress="</w>", space="_", tokens=SPECIAL,
                   pre_tokenizer={"type": "BertPreTokenizer"}, post=None, decoder={"type": "BPEDecoder", "suffix": "</w>"}),
    "prefix": dict(normalizer=None, model=dict(unk_token="<unk>", continuing_subword_prefix="##"), dress="##", space="_", tokens=SPECIAL,
                   pre_tokenizer={"type": "BertPreTokenizer"}, post=("<s>", "</s>"), decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
    "delimiter": LLAMA | dict(normalizer={"type": "Nmt"}, pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "e"}, post=None,
                              decoder=sequence("decoders", FALLBACK, replace("[a-c]+", "\u00e9", "Regex"), FUSE, replace("  ", "_"), FUSE)),
    "lengths": LLAMA | dict(normalizer=None, pre_tokenizer=sequence("pretokenizers", {"type": "FixedLength", "length": 3}, {"type": "Punctuation"}), post=None,
                            decoder={"type": "Strip", "content": "e", "start": 2, "stop": 0}),
    "bytes-as-normalizer": dict(normalizer=sequence("normalizers", {"type": "NFC"}, {"type": "ByteLevel"}), byte_level=True, model={}, tokens=SPECIAL,
                                pre_tokenizer=split(r"[\u0120]?[a-z]+", "Isolated"), post=None, decoder=sequence("decoders", byte_level(), STRIP, FUSE)),
}


def dress(tokens, merges, mark):
    """Twins of every token for the other places of a word."""
    if mark == "</w>":
        twins, pairs = [t + mark for t in tokens], [[a, b + mark] for a, b in merges]
    else:
        twins, pairs = [mark + t for t in tokens], [[a, mark + b] for a, b in merges] + [[mark + a, mark + b] for a, b in merges]
        merges = []
    return tokens + twins, merges + pairs


CLOSE = {"x": -9.177328881901452, "xx": -11.289659418771421}  # a real model's: the last bit of their sums decides on "xxxxx"


def scores(pieces):
    """Different for each, as a trained model's are; those of special and byte pieces 0."""
    return [[p, 0.0 if p.startswith("<") and len(p) > 2 else CLOSE.get(p) or -math.log(i + 2) - 1e-7 * (i * 7919 % 997)]
            for i, p in enumerate(pieces)]


def make_model(kind, tokens, merges):
    parts = KINDS[kind]
    extra = BYTES if parts.get("bytes") is True else parts.get("bytes") or []
    if parts.get("dress"):
        tokens, merges = dress(tokens, merges, parts["dress"])
    pieces = list(dict.fromkeys([t["content"] for t in parts["tokens"]] + extra + tokens))
    if parts.get("unigram"):
        pieces = [p for p in pieces if set(p) != {"x"}] + list(CLOSE)
        if parts.get("twice"):
            pieces += pieces[300:400]
        return {"type": "Unigram", "unk_id": parts["unknown"], "vocab": scores(pieces), "byte_fallback": bool(parts.get("bytes"))}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
             "byte_fallback": False, "ignore_merges": False, "vocab": {p: i for i, p in enumerate(pieces)}, "merges": merges}
    return model | parts["model"]


def build(kind, words):
    """A tokenizer.json of a kind over a vocabulary() result."""
    parts = KINDS[kind]
    tokens, merges = (list(words[0]), words[1]) if parts.get("byte_level") else as_text(words, parts.get("space", META))
    specials = [{"id": i} | t for i, t in enumerate(parts["tokens"])]
    post = parts["post"]
    if isinstance(post, tuple):
        post = {"type": "RobertaProcessing", "sep": [post[1], 2], "cls": [post[0], 1], "trim_offsets": True, "add_prefix_space": True}
    elif post:
        post = begin(post, 1)
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": specials, "normalizer": parts["normalizer"],
            "pre_tokenizer": parts["pre_tokenizer"], "post_processor": post, "decoder": parts["decoder"], "model": make_model(kind, tokens, merges)}
