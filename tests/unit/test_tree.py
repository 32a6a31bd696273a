"""The shape of the tree: which folder may include which, and what lies at the top."""
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOP = {"Makefile", "README.md", "LICENSE", "server", "kernels", "client", "tests", "configs"}

BASE = ["kernels/base/"]
KERNELS = BASE + ["kernels/"]
TOKENIZER = BASE + ["server/tokenizer/"]
MODEL = KERNELS + ["server/model/"]
ENGINE = MODEL + ["server/tokenizer/tokenizer.h", "server/engine/"]
HTTP = ENGINE + ["server/tokenizer/", "server/http/"]
MAIN = HTTP + ["server/"]
CLIENT = BASE + ["client/"]
# the first that fits counts; a file may include what begins so
ARROWS = [("kernels/base/", BASE), ("kernels/", KERNELS), ("server/tokenizer/", TOKENIZER),
          ("server/model/", MODEL), ("server/engine/", ENGINE), ("server/http/", HTTP),
          ("server/", MAIN), ("client/", CLIENT)]
# libraries that one file or one folder knows
OWNERS = {"microhttpd.h": ("server/http/daemon.c", "server/http/exchange.", "server/http/guest.", "server/http/response."),
          "curl/": ("client/",),
          "pcre2.h": ("server/tokenizer/",), "utf8proc.h": ("server/tokenizer/",),
          "jansson.h": ("kernels/base/", "server/", "client/")}


def sources():
    for top in ("server", "kernels", "client"):
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith((".c", ".h", ".def", ".cu", ".cuh", ".cpp")):
                    yield os.path.relpath(os.path.join(folder, name), ROOT)


def includes(text):
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, re.M)


def faults(path, text):
    """What a file of this path must not include."""
    allowed = next((a for start, a in ARROWS if path.startswith(start)), None)
    if allowed is None:
        return [f"{path}: in no layer"]
    out = []
    for kind, name in includes(text):
        if kind == '"' and not any(name.startswith(start) for start in allowed):
            out.append(f'{path}: includes "{name}"')
        for library, owners in OWNERS.items():
            if kind == "<" and name.startswith(library) and not path.startswith(owners):
                out.append(f"{path}: includes <{name}>")
    return out


def test_includes_point_down():
    found = []
    for path in sorted(sources()):
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            found += faults(path, file.read())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path, line", [
    ("kernels/cpu/linear.c", '#include "server/model/weights.h"'),
    ("kernels/cpu/linear.c", "#include <jansson.h>"),
    ("kernels/base/error.c", '#include "kernels/backend.h"'),
    ("server/model/weights.c", '# include "server/engine/run.h"'),
    ("server/engine/run.c", '#include "server/http/daemon.h"'),
    ("server/http/trace.c", "#include <microhttpd.h>"),
    ("client/cli.c", '#include "server/engine/run.h"'),
    ("client/cli.c", '#include "kernels/ops.h"'),
    ("kernels/base/tensor.c", '#include "tensor.h"'),
    ("kernels/base/safetensors.c", '#include "kernels/ops.h"'),
    ("server/tokenizer/bpe.c", '#include "server/model/weights.h"'),
    ("server/http/daemon.c", '#include "server/options.h"'),
    ("configs/file.c", '#include "kernels/base/error.h"'),
])
def test_an_arrow_that_points_up_is_found(path, line):
    assert faults(path, "#include <stdio.h>\n" + line + "\n")


@pytest.mark.parametrize("path, line", [
    ("server/http/daemon.c", "#include <microhttpd.h>"),
    ("client/compare.c", '#include "kernels/base/bf16.h"'),
    ("server/main.c", '#include "server/http/daemon.h"'),
])
def test_an_arrow_that_points_down_is_not(path, line):
    assert faults(path, line + "\n") == []


def test_kernels_name_their_types_once():
    """Sources of the CUDA backend are one C++ program: types of one name would be taken for one."""
    places = {}
    for path in sources():
        if path.startswith("kernels/cuda/"):
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                for name in re.findall(r"^(?:struct|union) (\w+) *\{", file.read(), re.M):
                    places.setdefault(name, []).append(path)
    assert places and {name: p for name, p in places.items() if len(p) > 1} == {}


# ---- clocks: who waits must not be moved by whoever sets the time ----

WALL_CLOCK = re.compile(r"CLOCK_REALTIME|\bgettimeofday\(|[^_\w>.]time\((?:NULL|0|&)|\bsem_timedwait\(")


def wall_clocks(path, text):
    """Where a file asks for the time of day; the log may."""
    return [] if path == "kernels/base/log.c" else [f"{path}: {found}" for found in WALL_CLOCK.findall(text)]


def test_nothing_waits_by_the_time_of_day():
    found = []
    for path in sorted(sources()):
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            text = file.read()
        found += wall_clocks(path, text)
        if "pthread_cond_timedwait(" in text and "CLOCK_MONOTONIC" not in text:
            found.append(f"{path}: pthread_cond_timedwait without CLOCK_MONOTONIC")
    assert not found, "\n".join(found)
    assert wall_clocks("server/main.c", "clock_gettime(CLOCK_REALTIME, &t);")
    assert wall_clocks("server/main.c", "    now = time(NULL);")


# ---- numerics: a row of the table of kernels/numerics.c, whose fields are read and nothing else ----

NUMERICS_TABLE = ("kernels/numerics.c",)
NUMERICS_COMPARED = re.compile(
    r"\bnumerics(?:\(\))?(?:->(?:name|about))?\s*(?:==|!=)(?!=)|(?:==|!=)\s*(?:\w+(?:->|\.))*numerics\b(?!->)"
    r"|\bstrcmp\([^;]*numerics(?:->name)?[^;]*\"torch-|\bNUMERICS_TORCH\w*|\bnumerics_find\(\"|\bswitch \([^)]*numerics(?:->name)?\)")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def comparisons(path, text):
    """Where a file asks which numerics it is."""
    if path in NUMERICS_TABLE:
        return []
    return [f"{path}: {found[0]}" for found in NUMERICS_COMPARED.finditer(COMMENT.sub("", text))]


def test_no_numerics_is_compared():
    found = []
    for path in sorted(sources()):
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            found += comparisons(path, file.read())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line, is_one", [
    ("if (b->numerics == avx2)", True), ("if (b->numerics != row)", True), ("x = row == call->backend->numerics;", True),
    ('if (strcmp(b->numerics->name, "torch-cuda") == 0)', True), ("n = NUMERICS_TORCH_CPU_AVX2;", True),
    ('if (numerics == numerics_find("torch-cuda"))', True), ("switch (b->numerics)", True), ("avx2 = numerics_find(\"torch-cpu/avx2\")", True),
    ("lanes = b->numerics->lanes;", False), ("if (b->numerics->kernels == KERNELS_TORCH_CUDA)", False),
    ("/* numerics == avx2 */", False), ("switch (b->numerics->kernels)", False), ("*out = numerics_find(text);", False),
    ("wanted == b->numerics->lanes", False),
])
def test_a_comparison_of_numerics_is_found(line, is_one):
    assert bool(comparisons("kernels/cpu/linear.c", line + "\n")) == is_one
    assert comparisons("kernels/numerics.c", line) == []


# ---- kernels/cpu: no module includes what includes it ----

def circles(files):
    """Names of modules that reach themselves; files: path -> text, a module is NAME.c and NAME.h."""
    module = lambda path: os.path.splitext(path)[0]
    edges = {}
    for path, text in files.items():
        found = {module(name) for kind, name in includes(text) if kind == '"'} - {module(path)}
        edges.setdefault(module(path), set()).update(found)
    def reached(start):
        seen, left = set(), [start]
        while left:
            for name in edges.get(left.pop(), ()):
                if name not in seen:
                    seen.add(name)
                    left.append(name)
        return seen
    return sorted(name for name in edges if name in reached(name))


def test_kernels_of_the_cpu_have_no_circles():
    files = {}
    for path in sources():
        if path.startswith("kernels/cpu/"):
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                files[path] = file.read()
    assert files and circles(files) == []


def test_a_circle_is_found():
    assert circles({"a.c": '#include "a.h"\n#include "b.h"', "a.h": "", "b.h": "", "b.c": '#include "c.h"'}) == []
    assert circles({"a.c": '#include "b.h"', "a.h": "", "b.h": '#include "a.h"', "c.c": '#include "b.h"'}) == ["a", "b"]


def test_files_that_comments_name_are_there():
    """A path of this tree in a source names a file that has not moved."""
    gone = []
    for path in sources():
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            for name in re.findall(r"\b(?:kernels|server|client|tests|configs)/[\w/-]+\.\w+\b", file.read()):
                if "NAME" not in name and not os.path.exists(os.path.join(ROOT, name)):
                    gone.append(f"{path}: {name}")
    assert gone == []


def test_top_level():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git working tree")
    tops = {name.split("/")[0] for name in listed.stdout.splitlines()}
    assert {name for name in tops if not name.startswith(".")} <= TOP
