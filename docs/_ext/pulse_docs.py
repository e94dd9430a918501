"""What the documentation takes from the code: settings, layers, docstrings as they stand."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING

import command_options
from layers import PYPROJECT, listing
from settings_table import definitions
from sphinx.util.docutils import SphinxDirective

import pulse.core.run
import pulse.core.task
import pulse.testing.time_travel

if TYPE_CHECKING:
    from types import ModuleType
    from typing import ClassVar

    from docutils import nodes
    from sphinx.application import Sphinx


class SettingsTable(SphinxDirective):
    """The settings that begin with a prefix: a definition of each, with an example."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        """Return a definition list made from the table."""
        return self.parse_text_to_nodes(definitions(self.arguments[0]))


class LayerList(SphinxDirective):
    """The layers of the package, the highest first, with a sentence for each module."""

    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        """Return a numbered list made from the import contract."""
        self.env.note_dependency(str(PYPROJECT))
        return self.parse_text_to_nodes(listing())


class CommandOptions(SphinxDirective):
    """The commands that work on a store, with their options."""

    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        """Return a paragraph and a table for each command, made from the parser."""
        return self.parse_text_to_nodes(command_options.definitions())


def show_blocks_as_they_stand(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Make literal blocks of the indented ones that follow a colon and an empty line."""
    for index, line in enumerate(lines[:-2]):
        opens = line.endswith(":") and not line.endswith("::") and not lines[index + 1].strip()
        if opens and _indent(lines[index + 2]) > _indent(line):
            lines[index] = f"{line}:"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def drop_theory_headings(
    _app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Leave out a module's heading, because the page has one and several share a page."""
    if what == "module" and "Theory of operation" in lines:
        place = lines.index("Theory of operation")
        del lines[place : place + 2]


def import_annotations(module: ModuleType) -> None:
    """Import what *module* imports for type checkers only.

    The signature of a msgspec Struct cannot be shown without the names in its annotations.
    """
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            code = compile(ast.Module(node.body, []), module.__name__, "exec")
            exec(code, vars(module))  # noqa: S102 - the module's own lines


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx what there is."""
    import_annotations(pulse.core.run)
    import_annotations(pulse.core.task)
    import_annotations(pulse.testing.time_travel)
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("layers", LayerList)
    app.add_directive("command-options", CommandOptions)
    app.connect("autodoc-process-docstring", show_blocks_as_they_stand, priority=900)
    app.connect("autodoc-process-docstring", drop_theory_headings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
