"""`docs/connect/new-adapter.md`: its adapter works, and its tests pass."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from services.ingest import adapters

PAGE = Path(__file__).parents[3] / "docs" / "connect" / "new-adapter.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def loaded(name: str, code: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module  # annotations are resolved by the module's name
    exec(compile(code, name, "exec"), module.__dict__)  # noqa: S102 - our own page
    return module


def test_the_pages_adapter_passes_the_pages_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    code, its_tests = blocks()
    names = ("acorn_of_the_page", "tests_of_the_page")
    try:
        acorn = loaded(names[0], code).Acorn()
        monkeypatch.setattr(adapters, "ADAPTERS", {"acorn": acorn})
        module = loaded(names[1], its_tests)
        tests = [test for name, test in vars(module).items() if name.startswith("test_")]
        assert len(tests) == 4
        for test in tests:
            test()
    finally:
        for name in names:
            sys.modules.pop(name, None)


def test_the_page_names_every_method_of_an_adapter() -> None:
    methods = {name for name in vars(adapters.Adapter) if not name.startswith("_")}
    assert methods == set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
