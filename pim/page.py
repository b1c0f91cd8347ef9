"""Pages of HTML that need nothing from elsewhere: sections, tables, figures, and the look they share."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

from pim.figure_style import svg

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2.5rem auto; max-width: 62rem;
  padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { font-size: 1.1rem; margin-top: 2.4rem; }
p.lead { margin: 0.1rem 0; color: #555; } figure { margin: 1rem 0 0; } figcaption { color: #555; max-width: 46rem; }
img { max-width: 100%; height: auto; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.7rem 0.25rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; border-bottom: 1px solid #999; } th small { display: block; font-weight: 400; color: #555; }
td { border-bottom: 1px solid #eee; }
table.text th, table.text td { text-align: left; white-space: normal; }
table.text td + td { overflow-wrap: anywhere; } table.text td:first-child { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.shown td { background: #f2f6fa; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
details { margin: 0.6rem 0; } summary { cursor: pointer; } a { color: #0b5cad; }
""".strip()


def page_of(title: str, parts: Iterable[str]) -> str:
    """The whole page."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>\n{STYLE}\n</style></head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A part of the page under its title."""
    return f"<h2>{escape(title)}</h2>\n{body}"


def figure(title: str, drawing: Figure, caption: str) -> str:
    """A section that is a figure."""
    return section(title, picture(drawing, caption, title))


def picture(drawing: Figure, caption: str, words: str = "") -> str:
    """A figure with its drawing in the page itself; `words` stand for it where it cannot be seen, else the caption."""
    image = b64encode(svg(drawing)).decode()
    return (
        f'<figure><img alt="{escape(words or caption)}" src="data:image/svg+xml;base64,{image}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table; heads of nothing but blanks are left out."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads) if any(heads) else ""
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return f'<table class="{kind}"><tr>{top}</tr>{body}</table>'


def cells(row: Sequence[str]) -> str:
    """The cells of a row."""
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
