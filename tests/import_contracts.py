"""A kind of contract for import-linter: what a module may import, rather than what it may not.

A list of forbidden vendors would have to name each vendor that somebody may think of next.
"""

from __future__ import annotations

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowedImports(Contract):
    """The modules and all below them import only each other, the standard library, and what ``allowed_modules`` names.

    Indirect imports are not looked at: what is allowed answers for what it imports.
    """

    type_name = "allowed"

    # Declared as fields, and lists of str on an instance, where import-linter has parsed them.
    modules: Any = fields.ListField(subfield=fields.StringField())
    allowed_modules: Any = fields.ListField(subfield=fields.StringField(), default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002  the base class names it
        allowed = {*self.modules, *self.allowed_modules, *sys.stdlib_module_names}
        importers = {importer for module in self.modules for importer in {module} | graph.find_descendants(module)}
        offences = [
            f"{importer} imports {imported}"
            for importer in sorted(importers)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not _is_within(imported, allowed)
        ]
        return ContractCheck(kept=not offences, metadata={"offences": offences})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for offence in check.metadata["offences"]:
            output.print_error(offence)
        output.new_line()


def _is_within(module: str, packages: set[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:length]) in packages for length in range(1, len(parts) + 1))
