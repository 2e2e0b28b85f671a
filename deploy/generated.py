"""Files that are made from the code: `python -m deploy.generated`, or `--check` to compare."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from deploy.grafana.dashboard import dashboard
from shared.db.roles import SERVICES
from shared.settings import ServiceSettings, variable
from shared.telemetry.catalogue import as_markdown
from shared.telemetry.traces import VARIABLES as TRACES_VARIABLES

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Made by `make generated` from the code; do not edit. -->\n\n"

METRICS_INTRODUCTION = """# Metrics

Every process serves these at `/metrics` in the Prometheus text format; those that are none of
its work stay at 0 or absent. `job` and `instance` are added by the scraper: `job` is the process
(`metrics-consumer`). Histograms have `_bucket`, `_sum` and `_count`. No label holds an id, a name
or an amount. What to do when one alarms: [runbooks](runbooks/README.md).

"""

SETTINGS_INTRODUCTION = """# Settings

Each service reads its own variables, or files that are called like them in the folder that
`ATTAIN_SECRETS_DIR` names (a variable wins). It does not start while one is missing, misspelt or a
placeholder, and says which; `python -m services.<name> check-config` only looks.

"""


TRACES_INTRODUCTION = """
## Traces

OpenTelemetry's own variables, the same for every process; see [operations](operations.md#traces).
Those that its SDK reads besides (`OTEL_EXPORTER_OTLP_HEADERS`, `…_CERTIFICATE`, `…_TIMEOUT`,
`OTEL_BSP_*`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SDK_DISABLED`) work as well.

| variable | meaning |
| --- | --- |
"""


def settings_classes() -> dict[str, type[ServiceSettings]]:
    """The settings class of each service."""
    found = {}
    for service in SERVICES:
        module = importlib.import_module(f"services.{service}.settings")
        found[service] = getattr(module, f"{service.capitalize()}Settings")
    return found


def metrics_page() -> str:
    """The catalogue of metrics."""
    return METRICS_INTRODUCTION + NOTE + as_markdown()


def settings_page() -> str:
    """Every setting of every service."""
    common = ServiceSettings.model_fields
    parts = [
        SETTINGS_INTRODUCTION
        + NOTE
        + "## Every service\n\n`<NAME>` is the service in capitals.\n\n",
        _table({f"ATTAIN_<NAME>_{name.upper()}": field for name, field in common.items()}),
    ]
    for service, known in settings_classes().items():
        own = {
            variable(known, name): field
            for name, field in known.model_fields.items()
            if name not in common
        }
        parts.append(f"\n## {service}\n\n{_table(own)}")
    parts.append(TRACES_INTRODUCTION)
    parts += [f"| `{name}` | {meaning} |\n" for name, meaning in TRACES_VARIABLES.items()]
    return "".join(parts)


FILES: Mapping[str, Callable[[], str]] = {
    "docs/metrics.md": metrics_page,
    "docs/settings.md": settings_page,
    "deploy/grafana/dashboards/attain.json": dashboard,
}


def outdated() -> list[str]:
    """The files that are not what the code says."""
    return [
        name
        for name, content in FILES.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text() != content()
    ]


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with `--check` say which are out of date; the exit code."""
    if list(arguments) == ["--check"]:
        for name in (found := outdated()):
            sys.stderr.write(f"{name} is out of date: run `make generated`\n")
        return 1 if found else 0
    for name, content in FILES.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(content())
    return 0


def _table(fields: Mapping[str, FieldInfo]) -> str:
    lines = ["| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        kind = _kind(field.annotation).replace("|", "\\|")
        lines.append(f"| `{name}` | {kind} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", {}, frozenset()):
        return "none"
    if isinstance(value, frozenset):
        value = sorted(value)
    if isinstance(value, bool | dict | list | tuple):
        return f"`{json.dumps(value, default=str, ensure_ascii=False)}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _kind(annotation: object) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    if origin is not None and origin in _COLLECTIONS:
        return _COLLECTIONS[origin]
    if arguments:  # a union with None
        return " or ".join(_kind(each) for each in arguments if each is not NoneType)
    return _WORDS.get(getattr(annotation, "__name__", ""), "text")


_COLLECTIONS: Mapping[object, str] = {
    dict: "JSON object",
    frozenset: "JSON list",
    list: "JSON list",
    tuple: "JSON list",
}

_WORDS = {
    "SecretStr": "secret",
    "int": "whole number",
    "float": "number",
    "Decimal": "number",
    "bool": "`true` or `false`",
    "Path": "path",
    "AnyHttpUrl": "URL",
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
