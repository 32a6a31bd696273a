"""Writes server/tokenizer/unicode_tables.h: where the `tokenizers` wheel's Unicode data and ours part.

Everything is asked of the installed wheel, by trying code points, so that the tables say what it does and not
what some version of a standard says.  The base both sides share is Unicode 14.0 (Python 3.11's unicodedata,
PCRE2 10.40 to 10.42, utf8proc 2.8): what was assigned by then has the same category in all of them.

    python tests/parity/make_unicode_tables.py server/tokenizer/unicode_tables.h
"""
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, Tokenizer, AddedToken, models, normalizers, pre_tokenizers

assert unicodedata.unidata_version == "14.0.0", "needs a Python whose unicodedata is 14.0 (3.11)"
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()


def matching(pattern, points=POINTS):
    split = pre_tokenizers.Split(Regex(pattern), "removed", False)
    found = set()
    for i in range(0, len(points), 4096):
        part = points[i:i + 4096]
        left = set("".join(t for t, _ in split.pre_tokenize_str("".join(map(chr, part)))))
        found.update(c for c in part if chr(c) not in left)
    return found


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def width(c):
    return 2 if c < 0x800 else 3 if c < 0x10000 else 4


def newer():
    """Code points unassigned in Unicode 14 or of another category there, with the one Oniguruma gives them.

    `Han` is a category of its own."""
    known = {c: unicodedata.category(chr(c)) for c in POINTS}
    moved = {c for name in CATEGORIES for c in matching(r"\p{%s}" % name) if known[c] != name}
    points = [c for c in POINTS if known[c] == "Cn" or c in moved]
    han = matching(r"\p{Han}", points)
    category = {}
    for name in CATEGORIES:
        for c in matching(r"\p{%s}" % name, points):
            category[c] = "Han" if c in han else name
    assert set(category) == set(points)
    rows = []
    for c in points:
        key = (category[c], width(c))
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == key:
            rows[-1][1] = c
        else:
            rows.append([c, c, key])
    return rows


def stand_in(key):
    """A code point that was always of this category and width, has no other case, and is no one's literal."""
    name, size = key
    if name == "Han":
        return 0x2A6D0 if size == 4 else 0x9FD0
    if name == "Cn":
        return {2: 0x0378, 3: 0xFDD0, 4: 0x1FFFF}[size]
    first, last = {2: (0x80, 0x800), 3: (0xA000, 0x10000), 4: (0x10000, 0x110000)}[size]
    order = list(range(first, last)) + (list(range(0x800, 0xA000)) if size == 3 else [])
    for c in order:
        s = chr(c)
        if unicodedata.category(s) == name and s.lower() == s == s.upper() and not unicodedata.combining(s) \
                and not 0xD800 <= c < 0xE000:
            return c
    for c in order:
        if unicodedata.category(chr(c)) == name:
            return c
    raise SystemExit("no stand-in for %s" % (key,))


def plain():
    """Assigned by Unicode 14 with a combining class or decomposition that the wheel's normalizers do not have."""
    nfd, nfkd, nfc = normalizers.NFD(), normalizers.NFKD(), normalizers.NFC()
    probes = {}
    for c in list(range(0x300, 0x1DC0)) + list(range(0x3000, 0x3100)):  # all of them old
        probes.setdefault(unicodedata.combining(chr(c)), chr(c))
    probes.pop(0)
    probes = {k: p for k, p in probes.items() if len(unicodedata.normalize("NFD", p)) == 1}
    classes = sorted(probes)

    def swaps(first, second):
        return first != second and nfd.normalize_str("a" + first + second) == "a" + second + first

    def same(c):
        s = chr(c)
        k = unicodedata.combining(s)
        if nfkd.normalize_str(s) != unicodedata.normalize("NFKD", s) or nfd.normalize_str(s) != unicodedata.normalize("NFD", s):
            return False
        if unicodedata.normalize("NFD", s) != s:
            return True
        if k == 0:
            return not swaps(probes[240], s)
        higher = [x for x in classes if x > k][:1]
        lower = [x for x in classes if x < k][-1:]
        return all(swaps(probes[x], s) for x in higher) and all(swaps(s, probes[x]) for x in lower) \
            and not (k in probes and (swaps(probes[k], s) or swaps(s, probes[k])))

    odd = {c for c in POINTS if unicodedata.category(chr(c)) != "Cn" and not same(c)}
    # the parts of a composite that the wheel does not compose must not meet either
    for c in POINTS:
        parts = unicodedata.normalize("NFD", chr(c))
        if unicodedata.normalize("NFC", parts) == chr(c) != parts and nfc.normalize_str(parts) != chr(c):
            odd.update(map(ord, parts))
            odd.add(c)
    for c in odd:
        s = chr(c)
        assert nfkd.normalize_str(s) == s and not swaps(probes[240], s), hex(c)
    return odd


def lower():
    lowercase = normalizers.Lowercase()
    rows = []
    for c in POINTS:
        got = lowercase.normalize_str(chr(c))
        if got == chr(c).lower():
            continue
        assert len(got) == 1
        delta = ord(got) - c
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == delta:
            rows[-1][1] = c
        else:
            rows.append([c, c, delta])
    return rows


def numeric():
    digits = pre_tokenizers.Digits(True)
    return {c for c in POINTS if len(digits.pre_tokenize_str("a" + chr(c))) > 1}


def word():
    """What the single_word rule of added tokens takes for a part of a word."""
    t = Tokenizer(models.BPE({"b": 0}, []))
    t.add_tokens([AddedToken("a", single_word=True, normalized=False)])
    return {c for c in POINTS if 1 not in t.encode(chr(c) + "a").ids}


def punctuation():
    pre = pre_tokenizers.Punctuation("isolated")
    return {c for c in POINTS if len(pre.pre_tokenize_str("a" + chr(c))) > 1}


def mark():
    strip = normalizers.StripAccents()
    return {c for c in POINTS if not strip.normalize_str(chr(c))}


def extending():
    """What joins a grapheme cluster: a table of SentencePiece's that maps "e" takes all of the cluster with it."""
    units = [0] * 0x400
    units[0] = 0x100 << 10
    units[0x100 ^ ord("e")] = 0x200 << 10 | 1 << 8 | ord("e")
    table = struct.pack("<I", 4 * len(units)) + struct.pack("<%dI" % len(units), *units) + b"X\0"
    only_e = normalizers.Precompiled(table)
    return {c for c in POINTS if only_e.normalize_str("e" + chr(c)) == "X"}


def table(out, kind, name, rows, note):
    out.append("/* %s */" % note)
    out.append("static const struct %s %s[] = {" % (kind, name))
    line = "   "
    for r in rows:
        item = " {%s}," % ", ".join(("0x%X" % x) if i < 2 else str(x) for i, x in enumerate(r))
        if len(line) + len(item) > 100:
            out.append(line)
            line = "   "
        line += item
    out.append(line)
    out.append("};\n")


def main(path):
    rows = newer()
    keys = sorted({r[2] for r in rows})
    index = {k: stand_in(k) for k in keys}
    out = ["/* unicode_tables.h - made by tests/parity/make_unicode_tables.py with tokenizers %s." % tokenizers.__version__,
           " *",
           " * Where the Unicode data of the `tokenizers` package (Oniguruma's, Rust's, its normalizers') part",
           " * from Unicode 14.0, which PCRE2 and utf8proc have at least. */",
           "/* clang-format off */",
           "#ifndef SAMEBIT_UNICODE_TABLES_H", "#define SAMEBIT_UNICODE_TABLES_H", "", "#include <stdint.h>", "",
           "struct unicode_range { uint32_t first, last; };",
           "struct unicode_stand_in { uint32_t first, last, stand_in; };",
           "struct unicode_delta { uint32_t first, last; int32_t delta; };", ""]
    table(out, "unicode_stand_in", "unicode_newer", [(a, b, "0x%X" % index[k]) for a, b, k in rows],
          "Unassigned in Unicode 14, or changed since: one of equal UTF-8 size and of Oniguruma's category.")
    table(out, "unicode_range", "unicode_plain", ranges(plain()),
          "Characters of Unicode 14 that the normalizers leave alone: class 0, no decomposition.")
    table(out, "unicode_delta", "unicode_lower", lower(), "Lower case where Rust's char::to_lowercase knows more.")
    table(out, "unicode_range", "unicode_numeric", ranges(numeric()), "Rust's char::is_numeric.")
    table(out, "unicode_range", "unicode_word", ranges(word()), "\\w of Rust's regex crate.")
    table(out, "unicode_range", "unicode_punctuation", ranges(punctuation()), "What Punctuation takes for some.")
    table(out, "unicode_range", "unicode_mark", ranges(mark()), "What StripAccents strips.")
    table(out, "unicode_range", "unicode_extending", ranges(extending()), "What joins the grapheme cluster before it.")
    out.append("#endif")
    open(path, "w").write("\n".join(out) + "\n")


main(sys.argv[1])
