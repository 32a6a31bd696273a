"""What the READMEs say of routes, settings and files is what the code says."""
import os
import re
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
READMES = [os.path.join(room, "README.md") for room in
           ("", "server", "kernels", "kernels/cuda", "client", "configs", "tests")]
TOP = ("server/", "kernels/", "client/", "configs/", "tests/")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def table_rows(text, first):
    """The cells of the table whose head begins with `first`."""
    lines = text[text.index(f"| {first} |"):].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def settings():
    """The rows of server/http/settings.def: key, default, what it bounds."""
    rows = []
    for row in re.findall(r"^SETTING\((.*)\)$", read("server/http/settings.def"), re.M):
        key, default = [cell.strip() for cell in row.split(",")[:2]]
        shown = eval(re.sub(r"INT64_C\((\d+)\)", r"\1", default), {})
        rows.append([f"`{key}`", f"{shown:,}", re.search('"(.*)"', row).group(1)])
    return rows


def write_settings():
    """Puts them into server/README.md: python tests/unit/test_docs.py"""
    text = read("server/README.md")
    head = "| key | default | bounds |\n| --- | --- | --- |\n"
    begin = text.index(head) + len(head)
    end = text.index("\n\n", begin)
    rows = "\n".join("| " + " | ".join(row) + " |" for row in settings())
    with open(os.path.join(ROOT, "server", "README.md"), "w", encoding="utf-8") as file:
        file.write(text[:begin] + rows + text[end:])


def test_the_settings_are_those_of_the_code():
    assert table_rows(read("server/README.md"), "key") == settings(), "python tests/unit/test_docs.py writes them"


@pytest.mark.parametrize("path", ["README.md", "kernels/README.md"])
def test_every_numerics_is_told(path):
    """In the words of samebitd --help."""
    of_code = re.findall(r'\.name = "([\w/,=-]+)",\s*\.about = ((?:"[^"]*"\s*)+),', read("kernels/numerics.c"))
    of_code = [(name, "".join(re.findall('"([^"]*)"', about))) for name, about in of_code]
    told = [(row[0].split("`")[1], row[1].replace("`", ""))
            for row in table_rows(read(path), "numerics | the bits are those of")]
    assert len(of_code) >= 3 and told == of_code


def test_every_route_is_told():
    routes = re.findall(r'\{"(\w+)", "(/[\w/]+)", \w+', read("server/http/routes.c"))
    text = read("server/README.md")
    assert len(routes) >= 8
    assert [f"{method} {path}" for method, path in routes if f"{method} {path}" not in text] == []


@pytest.mark.parametrize("path", READMES)
def test_links_and_paths_lead_somewhere(path):
    room, text, lost = os.path.dirname(path), read(path), []
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        if not os.path.exists(os.path.join(ROOT, room, link)):
            lost.append(link)
    for name in re.findall(r"`([\w./*-]+)`", text):
        here = name.startswith(("../",) + TOP)
        places = [os.path.join(ROOT, name), os.path.join(ROOT, room, name)]
        if here and "*" not in name and not any(map(os.path.exists, places)):
            lost.append(name)
    assert lost == []


def test_comments_cite_files_that_are_there():
    files = subprocess.run(["git", "ls-files", *TOP], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    lost = []
    for path in files:
        if not path.endswith((".c", ".h", ".cu", ".cuh", ".def")) or not os.path.exists(os.path.join(ROOT, path)):
            continue
        for comment in re.findall(r"/\*.*?\*/", read(path), re.S):
            for name in re.findall(r"(?<![\w./-])((?:server|kernels|client|configs|tests)/[\w./-]+\.[a-z]+)\b", comment):
                if "NAME" not in name and not os.path.exists(os.path.join(ROOT, name)):
                    lost.append(f"{path}: {name}")
    assert lost == []


if __name__ == "__main__":
    write_settings()


def test_what_is_recorded_is_told():
    """The table of tests/README.md is that of the golden files."""
    sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))
    import recorded

    assert recorded.table() in read("tests/README.md"), "tests/parity/recorded.py makes it"
