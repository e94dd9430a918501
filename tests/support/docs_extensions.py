"""Loads the modules of `docs/_ext`, which only Sphinx has on its import path."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

from tests.support.servers import ROOT

if TYPE_CHECKING:
    from types import ModuleType


def load_extension(name: str) -> ModuleType:
    """Return a new module of `docs/_ext`, which is not added to `sys.modules`."""
    spec = spec_from_file_location(name, ROOT / "docs" / "_ext" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
