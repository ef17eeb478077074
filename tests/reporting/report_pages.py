"""What the tests of the report share: what every page must be, and texts that try to be more than text."""

import json
from html.parser import HTMLParser
from itertools import cycle
from typing import Any

from lenet_mnist.files.tables import write_csv
from lenet_mnist.runs.run import Run

_VOID = {"meta", "link", "img"}
_INLINE = {"code", "strong", "small", "span", "a"}

# One of each kind: what closes the element it stands in, what brings an element, an attribute, an address or an entity.
PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</svg><script>alert(1)</script>",
    "</table></section></main><ScRiPt>alert(1)</sCrIpT>",
    "<script type=module>import('https://example.org/x.js')</script>",
    "<<script>alert(1)//<</script>",
    '"><img src=https://example.org/x.png onerror=alert(1)>',
    "' onfocus='alert(1)' autofocus='",
    '" style="position:fixed;inset:0;background:url(https://example.org/x)',
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s></svg>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<object data=https://example.org/x></object><base href=https://example.org/>",
    "<meta http-equiv=refresh content='0;url=https://example.org/'>",
    "<link rel=stylesheet href=https://example.org/x.css><style>@import url(https://example.org/x.css);</style>",
    "<form action=https://example.org/><a href=javascript:alert(1)>here</a></form>",
    "<!--><script>alert(1)</script-->]]>",
    "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "\u202e&lt;script&gt;alert(1)&#60;script&#62;\x00\x1b[2J+ADw-script+AD4-",
]
TENS = [PAYLOADS[:10], PAYLOADS[10:]]


class Outline(HTMLParser):
    """The parts of a page that the tests look at."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.opened: list[str] = []
        self.alts: list[str | None] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.attributes |= set(values)
        self._part(tag)
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "a":
            self.links.append(str(values.get("href")))
        if tag == "button":
            self.opened.append(str(values.get("popovertarget")))
        if tag == "img":
            self.alts.append(values.get("alt"))
            self.sources.append(str(values.get("src")))
        if values.get("role") == "img":
            self.alts.append(values.get("aria-label"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        self._part(tag)

    def _part(self, tag: str) -> None:
        self.text += "" if tag in _INLINE else " "

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def sound(page: str) -> Outline:
    """Assert what holds for every report, whatever the run is like, and return what is in it."""
    outline = Outline(page)
    assert outline.open == []
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(outline.ids) == len(set(outline.ids))
    assert all(link[0] == "#" and link[1:] in outline.ids for link in outline.links)
    assert set(outline.opened) <= set(outline.ids)
    assert all(alt and (any(letter.isdigit() for letter in alt) or "no epoch" in alt) for alt in outline.alts)
    assert all(source.startswith("data:image/png;base64,") for source in outline.sources)
    assert (outline.tags.count("script"), outline.tags.count("style")) == (0, 1)
    assert "style" not in outline.attributes  # which the page's own policy would refuse
    assert not [name for name in outline.attributes if name.startswith("on")]
    return outline


def signed(run: Run, **changes: Any) -> None:
    """Change the manifest, and sign it again, as an attacker can."""
    run.write_manifest(run.manifest.model_copy(update=changes))


def put_everywhere(run: Run, payloads: list[str]) -> None:
    """Let every text of an evaluated run that may be any text be one of ten payloads, and each class be named so."""
    turn = cycle(payloads)
    texts = ("message", "stop_reason", "command", "created", "machine", "engine_reason", "data_source", "split_sha256")
    signed(
        run,
        status="failed",
        data_files={next(turn): next(turn)},
        versions={next(turn): next(turn)},
        git={"commit": next(turn), "dirty": True},
        tuning={"lr": next(turn), next(turn): next(turn)},
        **{name: next(turn) for name in texts},
    )
    for split in ("test", "val"):
        if run.evaluation_path(split).exists():
            rename_classes(run, split, [f"{payload}{k}" for k, payload in enumerate(payloads)])


def rename_classes(run: Run, split: str, names: list[str]) -> None:
    """Give the classes of an evaluation other names."""
    directory = run.evaluation_path(split)
    metrics = json.loads((directory / "metrics.json").read_text())
    for row, name in zip(metrics["per_class"], names, strict=True):
        row["class"] = name
    (directory / "metrics.json").write_text(json.dumps(metrics))
    lines = (directory / "confusion_matrix.csv").read_text().splitlines()[1:]
    counts = [line.split(",")[1:] for line in lines]
    rows = [[name, *row] for name, row in zip(names, counts, strict=True)]
    write_csv(directory / "confusion_matrix.csv", ["true \\ predicted", *names], rows)
