"""`/docs`: one page made of the OpenAPI description, without a script or anything from elsewhere."""

import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
details { border: 1px solid #8886; border-radius: .5rem; margin: .5rem 0; padding: .5rem 1rem }
summary { cursor: pointer } summary b { font-family: ui-monospace, monospace; margin-right: .5rem }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; color: light-dark(#06c, #6af) }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .875rem }
pre { background: #8882; padding: .75rem; border-radius: .5rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
"""


def page(api: dict[str, Any], address: str) -> str:
    """HTML of an OpenAPI description; `address` stands in the examples."""
    groups: dict[str, list[str]] = {}
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["Other"])[0]
            groups.setdefault(tag, []).append(_operation(api, address, path, method, operation))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in groups.items())
    info = api["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>{STYLE}</style>'
        f"<h1>{escape(info['title'])}</h1><p>{escape(info.get('description', ''))}</p>"
        f'<p>For programs: <a href="openapi.json">openapi.json</a></p>{sections}</html>'
    )


def _operation(api: dict[str, Any], address: str, path: str, method: str, operation: dict[str, Any]) -> str:
    text = operation.get("description") or ""
    return (
        f'<details><summary><span class="method">{method.upper()}</span> <b>{escape(path)}</b> '
        f"{escape(operation.get('summary', ''))}</summary><p>{escape(text)}</p>"
        f"{_parameters(operation)}{_body(api, operation)}"
        f"<pre>{escape(_curl(api, address, path, method, operation))}</pre></details>"
    )


def _parameters(operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{escape(_type(p.get('schema', {})))}"
        for p in operation.get("parameters", [])
    )
    return f"<table><tr><th>parameter<th>in<th>type{rows}</table>" if rows else ""


def _body(api: dict[str, Any], operation: dict[str, Any]) -> str:
    schema = _schema(api, operation)
    required = set(schema.get("required", []))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if name in required else ''}<td>{escape(_type(field))}"
        f"<td>{escape(str(field.get('description', '')))}"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table><tr><th>field (* needed)<th>type<th>{rows}</table>" if rows else ""


def _schema(api: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema: dict[str, Any] = content.get("schema", {})
    if "$ref" in schema:
        schema = api["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return str(schema.get("type", "any"))


def _curl(api: dict[str, Any], address: str, path: str, method: str, operation: dict[str, Any]) -> str:
    lines = [f"curl {'' if method == 'get' else f'-X {method.upper()} '}{address}{path}"]
    if operation.get("security"):
        lines.append('-H "Authorization: Bearer $ENGINE_KEY"')
    example = _schema(api, operation).get("example")
    if example:
        lines += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(example)}'"]
    return " \\\n  ".join(lines)
