"""HTML pages that carry their scripts and data, and may run nothing else."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a page in which each {{name}} of its template is a value."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def inert_json(value: Any) -> str:
    """Return JSON that can stand in an HTML page: nothing in it ends its block or begins a comment."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def style_of(template: str) -> str:
    """Return the content of the one style sheet in a template."""
    return template.partition("<style>")[2].partition("</style>")[0]


def policy_source(content: str) -> str:
    """Return how a Content-Security-Policy names an inline style sheet or script. Source: W3C, CSP level 3, 2.3.1."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
