"""Ready-made calls in curl, Python and JavaScript."""

import json
import shlex
from dataclasses import dataclass
from typing import Any

from django.conf import settings

EXAMPLE = ["A moving, funny film."]


@dataclass(frozen=True, slots=True)
class Snippet:
    """One call, in one language."""

    name: str  # For ids and the remembered choice.
    title: str
    code: str


def all_snippets(model_path: str, *, key: str, input_data: Any = None) -> list[Snippet]:
    """Return the same call in every language."""
    return [
        Snippet("curl", "curl", curl(model_path, key=key, input_data=input_data)),
        Snippet("python", "Python", python(model_path, key=key, input_data=input_data)),
        Snippet("javascript", "JavaScript", javascript(model_path, key=key, input_data=input_data)),
    ]


def _url(model_path: str) -> str:
    return f"{settings.SITE_URL}/v1/models/{model_path}/predict"


def curl(model_path: str, *, key: str, input_data: Any = None) -> str:
    """Return the call for a shell; one paste, with the body quoted for sh."""
    body = json.dumps({"input_data": EXAMPLE if input_data is None else input_data}, ensure_ascii=False)
    return (
        f"curl {_url(model_path)} \\\n"
        f'  -H "Authorization: Bearer {key}" \\\n'
        f'  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )


def python(model_path: str, *, key: str, input_data: Any = None) -> str:
    """Return the call for Python's own library: nothing to install."""
    body = repr({"input_data": EXAMPLE if input_data is None else input_data})  # False and None, where JSON says false and null.
    return (
        "import json\n"
        "from urllib.request import Request, urlopen\n\n"
        "request = Request(\n"
        f'    "{_url(model_path)}",\n'
        f"    data=json.dumps({body}).encode(),\n"
        f'    headers={{"Authorization": "Bearer {key}", "Content-Type": "application/json"}},\n'
        ")\n"
        "with urlopen(request) as reply:\n"
        "    answer = json.load(reply)\n"
        'print(answer["prediction"], answer["usage"]["cost"])'
    )


def javascript(model_path: str, *, key: str, input_data: Any = None) -> str:
    """Return the call for Node.js 18 and later, or any runtime with fetch."""
    body = json.dumps({"input_data": EXAMPLE if input_data is None else input_data}, ensure_ascii=False)
    return (
        f'const reply = await fetch("{_url(model_path)}", {{\n'
        '  method: "POST",\n'
        "  headers: {\n"
        f'    "Authorization": "Bearer {key}",\n'
        '    "Content-Type": "application/json",\n'
        "  },\n"
        f"  body: JSON.stringify({body}),\n"
        "});\n"
        "const answer = await reply.json();\n"
        "console.log(answer.prediction, answer.usage.cost);"
    )
