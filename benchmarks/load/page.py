"""Tables and pictures as one HTML page that needs nothing else: no script, no network, pictures inside."""

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from rich.table import Table

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.6rem; }
figure { margin: 1.6rem 0; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .22rem .7rem; border-bottom: 1px solid var(--line); }
th { border-bottom-width: 2px; vertical-align: bottom; } tr:hover td { background: var(--soft); }
td.right, th.right { text-align: right; } td.left, th.left { text-align: left; }
figcaption, .facts { opacity: .75; font-size: .87rem; max-width: 100ch; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
code { font-size: .87rem; overflow-wrap: anywhere; }
"""


def html_page(sections: Iterable[str]) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<title>Benchmarks</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>Benchmarks</h1>\n{''.join(sections)}</body>\n</html>\n"
    )


def section(name: str, report: Mapping[str, Any], *, tables: Iterable[Table], pictures: Mapping[str, bytes]) -> str:
    """One results file: what made it, its pictures, its tables."""
    machine, versions = report["machine"], report["versions"]
    facts = f"{machine['cores']} cores of {machine['processor']}, {machine['system']}; " + ", ".join(
        f"{package} {version}" for package, version in versions.items()
    )
    if "load_average_before" in report:
        facts += f"; load average before: {report['load_average_before'][0]:.2f}"
    body = "".join([*(_image(what, png) for what, png in pictures.items()), *(html_table(table) for table in tables)])
    command = report["command"]
    shown = command if isinstance(command, str) else json.dumps(command)
    return f'<h2>{escape(name)}</h2>\n<p class="facts"><code>{escape(shown)}</code><br>{escape(facts)}</p>\n{body}'


def html_table(table: Table) -> str:
    """A rich table of plain texts as an HTML one."""
    columns = [(column.justify, str(column.header), [str(cell) for cell in column.cells]) for column in table.columns]
    head = "".join(f'<th class="{justify}">{escape(header)}</th>' for justify, header, _ in columns)
    rows = zip(*(cells for _, _, cells in columns), strict=True)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{columns[place][0]}">{escape(cell)}</td>' for place, cell in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    note = f"<figcaption>{escape(str(table.caption))}</figcaption>\n" if table.caption else ""
    return (
        f"<figure>\n<table>\n<caption>{escape(str(table.title))}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n{note}</figure>\n"
    )


def _image(what: str, png: bytes) -> str:
    return f'<figure><img alt="{escape(what)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>\n'
