"""Texts to tokenize: a fixed corpus, and any number of generated ones."""
import random
import unicodedata

PROSE = {
    "Latin": "The river was wide and slow, and nobody had ever counted its bridges. \"Nine?\" — she'd guessed twelve.",
    "French": "L'été dernier, où étions-nous ? À Besançon, près de l'église, chez ma sœur aînée.",
    "German": "Größere Übergänge brauchen mehr Maß; daß die Straße naß ist, weiß jedes Füchslein.",
    "Vietnamese": "Ngày mai trời có thể mưa, nhưng chúng tôi vẫn sẽ đi chợ sớm để mua rau và cá tươi.",
    "Turkish": "Işığı gören küçük kız İstanbul'da çiçek topluyordu; ağaçların gölgesi uzundu.",
    "Cyrillic": "Вечером над рекой поднялся туман, и лодочник зажёг фонарь: «Скоро ли дождь?»",
    "Greek": "Ο άνεμος έσβησε τη φωτιά, κι εμείς περιμέναμε το πρωί. Ποιος θα ξυπνούσε πρώτος;",
    "Armenian": "Գարնանը լեռների ձյունը հալվում է, և գետերը դառնում են աղմկոտ։",
    "Georgian": "მთის წვერზე თოვლი დილით ვარდისფერი იყო, საღამოს კი ლურჯი.",
    "Hebrew": "הילד שאל את סבו: כמה כוכבים יש בשמיים? שָׁלוֹם, ענה הזקן וחייך.",
    "Arabic": "كتب المسافر رسالةً طويلة إلى أخيه، ثم نسي أن يُرسلها ثلاثة أيام.",
    "Persian": "باران که می‌بارد، کوچه‌ها بوی خاک می‌گیرند و پنجره‌ها باز می‌شوند.",
    "Devanagari": "सुबह की पहली गाड़ी छूट गई, इसलिए हम पैदल ही बाज़ार की ओर चल पड़े।",
    "Bengali": "নৌকাটি ধীরে ধীরে ঘাট ছেড়ে গেল, আর মাঝি একটি পুরনো গান ধরল।",
    "Tamil": "மழை நின்றதும் குழந்தைகள் தெருவில் ஓடி விளையாடத் தொடங்கினார்கள்.",
    "Telugu": "పక్షులు తిరిగి వచ్చేసరికి చెట్లన్నీ కొత్త ఆకులతో నిండిపోయాయి.",
    "Thai": "แม่ค้าตื่นแต่เช้ามืดเพื่อเตรียมขนม แล้วพายเรือไปตลาดน้ำกับลูกสาว",
    "Lao": "ນໍ້າຂອງໄຫຼຜ່ານບ້ານນ້ອຍ ແລະຊາວປະມົງກັບມາຕອນຄໍ່າ.",
    "Khmer": "ព្រះអាទិត្យរះឡើងពីក្រោយភ្នំ ហើយសត្វស្លាបចាប់ផ្តើមច្រៀង។",
    "Myanmar": "မိုးရွာပြီးနောက် လယ်ကွင်းများ စိမ်းလန်းလာသည်။",
    "Tibetan": "རི་བོའི་རྩེ་ནས་ཉི་མ་ཤར་བ་དང་། བྱེའུ་ཚོས་གླུ་ལེན།",
    "Ethiopic": "ልጆቹ ከትምህርት ቤት ሲመለሱ ዝናብ ያዛቸው፤ እናታቸው ሳቀች።",
    "Chinese": "他把信折好，放进旧木箱里，三十年没有打开。「也许明天吧」，他说。",
    "Japanese": "駅前のパン屋は朝五時に開くので、始発の前にコーヒーが飲める。ｶﾀｶﾅもﾊﾝｶｸで。",
    "Korean": "겨울 바다를 보러 갔는데, 생각보다 따뜻해서 외투를 벗었다.",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ᠎ᠡ ᠰᠤᠷᠤᠶ᠎ᠠ",
    "Gothic": "𐌼𐌰𐌲 𐌲𐌻𐌴𐍃 𐌹̈𐍄𐌰𐌽, 𐌽𐌹 𐌼𐌹𐍃 𐍅𐌿 𐌽𐌳𐌰𐌽 𐌱𐍂𐌹𐌲𐌲𐌹𐌸",
}
CODE = {
    "C": "int main(void)\n{\n\tfor (size_t i = 0; i < n; ++i) { a[i] += b[i] << 3; }\n\treturn 0x7fFF & ~1UL;\n}\n",
    "Python": "def f(x, *, y=None):\n    \"\"\"It's y's.\"\"\"\n    return {k: v ** 2 for k, v in x.items() if k != '__init__'}\n\n\n",
    "shell": "#!/bin/sh\nset -eu; find . -name '*.o' -print0 | xargs -0r rm -f -- && echo \"done: $? ${HOME:-/}\"\r\n",
    "HTML": "<!DOCTYPE html>\n<a href=\"https://example.org/?q=1&amp;r=%20#x\">caf&eacute;</a><br/>\n",
    "JSON": "{\"a\": [1, -2.5e-10, null, true], \"\\u00e9\": \"\\\\\\\"\"}",
    "TeX": "\\frac{\\partial f}{\\partial x_{1}} = \\sum_{i=0}^{\\infty} \\alpha^{2i} % it's\n",
    "SQL": "SELECT COUNT(*) FROM t WHERE a='it''s' AND b>=10.50;--x",
}
SMALL = {
    "empty": "", "space": " ", "spaces": "        ", "newlines": "\n\n\n", "crlf": "a\r\n\r\nb\r\rc\n", "tabs": "\t\tx\t y\t\t",
    "space runs": "a  b   c    d \n  e \n\n   f", "trailing": "end   ", "leading": "   start",
    "unicode spaces": "a\u00a0b\u1680c\u2000\u2001d\u2028e\u2029f\u202fg\u205fh\u3000i\u0085j\u200bk\u180el\ufeffm",
    "contractions": "I'm you're he'd we'll they've it's don't I'M YOU'RE HE'D WE'LL THEY'VE IT'S DON'T 's'S 'lL 'Ve",
    "folded": "'\u017f x'\u017f '\u212a a'\u017fs \u0149 \ufb05 \u1e9e '\u0130", "apostrophes": "''' 'tis ’s it’s",
    "digits": "0 12 123 1234 12345 1234567890 3.14159 1,000,000 ١٢٣ १२३ ４５６ ² ³ ½ Ⅷ ⑨ 十",
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🇫🇷🇩🇪 ❤️ 1️⃣ 🏳️‍🌈 🧑🏿‍🚀 😀😀😀", "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "nul": "a\0b\0\0c", "only nul": "\0", "noncharacters": "\ufdd0\ufffe\uffff\U0001ffff\U0010ffff",
    "private": "\ue000\uf8ff\U000f0000\U00100000", "replacement": "\ufffd\ufffd x", "bom": "\ufefftext",
    "joiners": "a\u200db\u200c\u2060c\u00add", "bidi": "\u202eabc\u202c \u2067x\u2069",
    "combining": "e\u0301 e\u0323\u0302 e\u0302\u0323 a\u0315\u0300\u05ae b\u0344 \u0301x q\u0307\u0323",
    "composites": "\u00c5\u212b\u0041\u030a \u1e9b\u0323 \ufb01 \u2460 \uac00 \u1100\u1161\u11a8 \u0958 \u2adc \U0001d15e \u0340\u0374\u037e",
    "newer letters": "\u1c89\ua7cb \U00010d50 \U00010570 \U00031350\U0002ebf0 \U0001e4d0\U0001e4ec \U00011f00 \U00016d40 \u0cf3",
    "newer before lines": "".join(c + "\n        \n" for c in "\u1c89\ua7cb\U00010d50\U00031350\U0001e4d0\U00011f50\u0cf3\U0001171e\u180e\u200b"),
    "newer marks": "a\u0897b \u1715 \U00010efd\U0001e5ee x\u1ace\u1ac1\u0301 \U00011938 \U00011935\U00011930 \u32ff \u09fe\u0c3c",
    "unassigned": "\u0378\u0e5c\u2fe0 \U000323b0\U000e0fff", "ideographs": "㐀䶿一龥鿿𠀀𪛖𮯠〇々〆ヶ",
    "long a": "a" * 300, "long space": " " * 300, "long mixed": "ab" * 150, "hangul": "ᄒ" + "ᅡ" + "ᆫ" + "글" + "\u11a8\u1161",
    "special": "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><|im_start|", "special text": "<|begin_of_text|>a<|eot_id|> <s>[INST] x",
    "special edges": " <left> x  <right>  y <both> <left>> <A> <a> MIXED mixed word sword wordy a-word. \u00c9T\u00c9 e\u0301te\u0301 a  b a b",
    "words": "word word1 _word word_ éword word\u0301 (word) word", "hyphens": "a-b--c---d -- - e-", "punctuation": "?!... ([{<>}]) «»„“”‘’ ¿¡ — – … ·",
    "math": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β ≤ ∞ 𝔸𝒷𝟙", "slashes": "a/b//c \\ / \r\n/\n/", "mixed case": "iPhone McDonald HTTPServer ǅungla ΑΣ ΣΑΣ ßẞ İi",
    "mixed scripts": "abcабвαβγ123١٢٣漢字かなカナ한글אבגदेव", "kelvin": "300 K, 5 Å, 10 Ω", "superscripts": "x² y³ a₁ ⁿ ª º",
}


def fixed():
    """(name, text) of the fixed corpus."""
    return [*PROSE.items(), *CODE.items(), *SMALL.items()]


PIECES = [" ", "  ", "\n", "\r\n", "\t", "'s", "'ll", "'\u017f", "<|im_end|>", "<|endoftext|>", "<left>", " word ", "\u0301", "\u0323\u0301",
          "\u200d", "\ufe0f", "0", "42", "-", "...", "\0", "e\u0301", "\u1100\u1161", "<s>", "\u180e", "\u3000"]
BLOCKS = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x800), (0x900, 0xE00), (0xE00, 0x1200),
          (0x1200, 0x1800), (0x1800, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0xA000), (0xA000, 0xAC00), (0xAC00, 0xD7B0),
          (0xF900, 0x10000), (0x10000, 0x11000), (0x11000, 0x12000), (0x16000, 0x19000), (0x1D000, 0x1D800), (0x1E000, 0x20000)]


def generated(count, seed=20):
    """Seeded texts: mixtures of scripts, marks out of order, edges of whitespace, any code point."""
    rng = random.Random(seed)
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    words = [w for text in [*PROSE.values(), *CODE.values()] for w in text.split(" ")]

    def point():
        c = rng.randrange(0x110000 - 0x800)
        return chr(c if c < 0xD800 else c + 0x800)

    def block():
        low, high = rng.choice(BLOCKS)
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 6)))

    def marked():
        return rng.choice("aeoAxк\u05d0\u0915 ") + "".join(rng.choice(marks) for _ in range(rng.randrange(1, 6)))

    def spaces():
        return "".join(rng.choice(" \n\r\t\u00a0\u2028\u3000\u0085") for _ in range(rng.randrange(1, 5)))

    makers = [point, block, block, marked, spaces, lambda: rng.choice(PIECES), lambda: rng.choice(words),
              lambda: rng.choice(words) + " ", lambda: str(rng.randrange(10 ** rng.randrange(1, 9)))]
    return ["".join(rng.choice(makers)() for _ in range(rng.randrange(1, 12))) for _ in range(count)]


EDGES = ["e\u0301", "\u304b\u3099", "\x01", "\r\n", "\t", "a", "aa", "x", " ", "  ", "\u00ad\u0301", "\u00a9\u200d", "b1", "\u2581", "\u00e9", "</s>",
         "<s>", "<|end|> ", "\u0903", "\u1e9b\u0323", "``", "x\u0323\u0301", "1", "\u0600e", "\ufb01", "\n", "<unk>", "<0x41>", "\u1100\u1161", "\U0001F1E6",
         "\u0915\u094d\u0937", "\ufeff", "\u200b", "don't", ".", ", ", "\u3000", "#", "_"]


def edges(count, seed=9):
    """Seeded texts of few parts each, all from places where steps of a tokenizer meet, and runs of one character,
    which Unigram can cut in several ways of equal score: the last bit of a score then decides."""
    rng = random.Random(seed)

    def text(i):
        if i < 12:
            return "x" * i
        if i % 8 == 0:
            return rng.choice("xeaolst=-#*_.0mwr/\n") * rng.randrange(3, 12)
        return "".join(rng.choice(EDGES) for _ in range(rng.randrange(1, 9)))

    return [text(i) for i in range(count)]
