"""What `make site` adds to docs/ (a hook of mkdocs.yml): pages beside docs/, code that pages link to, notebooks."""

import json
import posixpath
import re
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lenet_mnist"
BESIDE = ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")
PACKAGES = ("model", "data", "training", "tuning", "analysis")  # to which pages link
ITALIAN = ("lezione.md", "glossario.md", "notebooks/lezione.md")
EXECUTED = ROOT / "build" / "notebooks"  # by `make notebooks`


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README and its like, and a page for each package of the code."""
    for name in BESIDE:
        add(files, config, f"{name.lower()}.md", (ROOT / f"{name}.md").read_text())
    for package in PACKAGES:
        text = f"---\nsearch: {{exclude: true}}\n---\n# The code of {package}/\n"
        for path in sorted((SOURCE / package).glob("*.py")):
            text += f"\n## `{path.name}`\n\n```python\n{path.read_text()}```\n"
        add(files, config, f"source/{package}.md", text)
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        add(files, config, f"notebooks/{path.stem}.md", notebook(EXECUTED / path.name))
    return files


def add(files: Files, config: MkDocsConfig, uri: str, text: str) -> None:
    files.append(File.generated(config, uri, content=text, inclusion=InclusionLevel.INCLUDED))


def notebook(path: Path) -> str:
    """Return an executed notebook as a page."""
    pieces = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        is_code = cell["cell_type"] == "code"
        pieces.append(f"```python\n{source}\n```" if is_code else source.replace(".ipynb)", ".md)"))
        pieces += [f"<div>{each}</div>" for output in cell.get("outputs", []) if (each := shown(output))]
    page = "\n\n".join([*pieces, f"[{path.name}]({path.name})"])
    return page.replace(f"{ROOT}/build/executing/", "")


def shown(output: dict[str, Any]) -> str:
    """Return an output of a cell in HTML; notes on standard error are about the machine, and left out."""
    if output["output_type"] == "stream":
        return f"<pre>{escape(''.join(output['text']))}</pre>" if output["name"] == "stdout" else ""
    data = {kind: "".join(text) for kind, text in output["data"].items()}
    picture = f'<img alt="What the cell above draws" src="data:image/png;base64,{data.get("image/png", "").strip()}">'
    return data.get("text/html") or picture


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links lead to where the site has what they name."""
    if "/" in page.file.src_uri:  # of a notebook, or of the code
        return markdown
    beside = page.file.src_uri.removesuffix(".md").upper() in BESIDE

    def link(found: re.Match[str]) -> str:
        target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join("" if beside else "docs", target))
        source = re.fullmatch(r"src/lenet_mnist/(\w+)(?:/(\w+)\.py)?", path)
        if source:
            module = source[2]
            return f"](source/{source[1]}.md{f'#{module}py' if module else ''})"
        return f"]({path.lower() if '/' not in path else path.removeprefix('docs/').replace('.ipynb', '.md')}{anchor})"

    return re.sub(r"\]\((?!https://|#)([^)#\s]+)([^)\s]*)\)", link, markdown)


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Say which pages are Italian, for readers of screens and for hyphens."""
    return output.replace('<html lang="en"', '<html lang="it"', 1) if page.file.src_uri in ITALIAN else output
