"""The report of a run as text: lines while it goes on, Markdown for tests/README.md."""
import figures
import goals

SIDES = ["samebit sdpa", "samebit eager", "PyTorch sdpa", "PyTorch eager", "llama.cpp"]


def number(value):
    """Three significant digits, thousands with a comma."""
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3}f}"


def span(s):
    return f"{number(s['median'])} ({number(s['least'])} to {number(s['most'])})"


def lines_of(row):
    """A row on a terminal."""
    if "points" in row:
        return [f"{row['work']}: {row['unit']} by {row['x']}"] + [
            f"    {side:<16}" + "  ".join(f"{x}: {number(y)}" for x, y in points) for side, points in row["points"].items()]
    busy = f", others {row['others']:.0%}" if row.get("others") else ""
    lines = [f"{row['work']} ({row['unit']}{busy})"]
    for name, s in row["sides"].items():
        ratio = row["ratios"].get(f"samebit sdpa / {name}") or row["ratios"].get(f"samebit / {name}")
        lines.append(f"    {name:<22}{span(s):<34}" + (f"ratio {span(ratio)}" if ratio else ""))
    return lines + [f"    {name:<16}skip: {why}" for name, why in row.get("skipped", {}).items()]


def markdown(header, body):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)] +
                     ["| " + " | ".join(cells) + " |" for cells in body])


def ratio_cell(row, others):
    ratios = figures.ratios_to(row, goals.OURS, others)
    return f"{min(ratios):.2f}" if ratios else ""


def speed_table(rows):
    """Works with a figure of each program; a column of ratios to the best peer, and to the limit."""
    body = []
    for r in rows:
        if "points" in r or goals.OURS not in r["sides"] or r["work"] == "disturbed":
            continue
        limit = ratio_cell(r, [figures.LIMIT])
        body.append([f"{r['work']}, {r['unit']}", *(number(figures.median(r, s)) for s in SIDES),
                     ratio_cell(r, goals.PEERS), limit and f"{float(limit):.0%}"])
    return markdown(["", *SIDES, "x best peer", "of the limit"], body) if body else ""


def trace_table(rows):
    body = []
    for r in rows:
        if not r["work"].startswith("trace"):
            continue
        untraced = figures.median(r, "untraced")
        for form in r["bytes"]:
            took = figures.median(r, form)
            if took and untraced:
                what = form if "," in form else f"every value, {form}"
                body.append([f"{r['tokens']} tokens, {r['steps']} steps: {what}", number(r["bytes"][form] / 1e6), number(untraced),
                             number(took), f"{took / untraced:.2f}", number(r["bytes"][form] / took / 1e6)])
    return markdown(["", "MB", "ms untraced", "ms traced", "ratio", "GB/s"], body) if body else ""


def process_table(rows):
    """Start-up, memory and what a busy core leaves: a figure of each program."""
    body = []
    for r in rows:
        if r["work"] in ("start-up", "memory", "disturbed"):
            cells = [next((number(s["median"]) for n, s in r["sides"].items() if n.split()[0] == side), "")
                     for side in ("samebit", "PyTorch", "llama.cpp", figures.LIMIT)]
            what = f"{r['work']}, {r['unit']}" + (f" (checkpoint {number(r['checkpoint'])})" if "checkpoint" in r else "")
            body.append([what, *cells])
    return markdown(["", "samebit", "PyTorch", "llama.cpp", "touching so much new memory"], body) if body else ""


def goals_table(rows, unmeasured=True, numerics=None):
    met = {True: "met", False: "not met", None: "not measured"}
    return markdown(["goal", "model", "wanted", "measured", ""], [
        [what, goals.NAMES[model], f"{sense} {bound:g}", number(value), met[is_met]]
        for what, model, sense, bound, value, is_met in goals.judge(rows, numerics) if unmeasured or is_met is not None])


def limits_text(limits):
    """What the CPU cannot is left out."""
    kinds = (("multiply", "vdpbf16ps"), ("tiles", "tdpbf16ps"))
    return ", ".join([f"{limits['read'] / 1e9:.0f} GB/s read from memory"] + [
        f"{limits[what] / 1e9:.0f} GFLOP/s of `{name}`" for what, name in kinds if limits.get(what)])


def headline(report):
    limits = report.get("limits") or {}
    said = [f"{report['cpu']}, {report['threads']} threads, {report['date']}"]
    if limits:
        said.append(limits_text(limits))
    said += [f"{name} {version}" for name, version in report.get("versions", {}).items()]
    busiest = max((r.get("others") or 0 for r in report["rows"]), default=0)
    return "; ".join([*said, f"other processes took at most {busiest:.0%} of the machine"])


def document(report):
    """The Markdown that tests/README.md holds."""
    parts = [headline(report) + ". Medians; ratios are medians of ratios within a round."]
    for model, name in goals.NAMES.items():
        rows = [r for r in report["rows"] if r["model"] == model]
        tables = [t for t in (speed_table(rows), process_table(rows), trace_table(rows)) if t]
        if tables:
            parts += [f"**{name}**", *tables]
    return "\n\n".join([*parts, "**Goals**", goals_table(report["rows"], numerics=report.get("numerics"))]) + "\n"


MARKS = "<!-- make bench-table writes what follows -->\n", "<!-- up to here -->\n"


def put_into(text, report):
    """A text with the document between the two marks that it has."""
    begin, end = (text.index(mark) for mark in MARKS)
    return text[:begin] + MARKS[0] + "\n" + document(report) + "\n" + text[end:]
