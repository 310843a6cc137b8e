"""The pages of the reference: which names each module offers. Their text is that of the docstrings, by mkdocstrings."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {
    "alkaline_edge": "Kernel",
    "alkaline_edge.host": "Host contract",
    "alkaline_edge.board": "Board",
    "alkaline_edge.capacity": "Limits and budgets",
    "alkaline_edge.mcp": "MCP tools",
    "alkaline_edge.replay": "Replay",
    "alkaline_edge.retention": "Retention",
    "alkaline_edge.sealing": "Sealing",
    "alkaline_edge.testing": "Testing",
    "alkaline_edge.triggers": "Schedules",
}
HOSTS = sorted(
    f"alkaline_hosts.{path.stem}"
    for path in (ROOT / "hosts" / "alkaline_hosts").glob("*.py")
    if not path.stem.startswith("_") and path.stem != "cli"
)
TITLES = (
    {f"reference/{name}.md": title for name, title in KERNEL.items()}
    | {"reference/command_line.md": "Command line"}
    | {f"reference/{name}.md": name for name in HOSTS}
)
"""Each page of the reference, and its title in the navigation."""


def names_of(module: str) -> list[str]:
    """What a module says that it offers, or else all that it defines without an underscore."""
    parts = module.split(".")
    root = ROOT / "hosts" if parts[0] == "alkaline_hosts" else ROOT
    path = root.joinpath(*parts)
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            listed: list[str] = ast.literal_eval(node.value)
            return [name for name in listed if not name.startswith("_")]
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]


def pages() -> dict[str, str]:
    """The Markdown of every page."""
    made = {f"reference/{module}.md": _page(module) for module in [*KERNEL, *HOSTS]}
    made["reference/command_line.md"] = (
        "# Command line\n\n[The command line](../cli.md) says how it is used; this is what `--help` shows.\n\n"
        "::: mkdocs-click\n    :module: alkaline_hosts._cli.commands\n    :command: alkaline\n"
        "    :prog_name: alkaline\n    :depth: 1\n    :style: plain\n    :list_subcommands: true\n"
    )
    return made


def _page(module: str) -> str:
    lines = [f"# `{module}`", "", f"::: {module}", "    options:", "      show_root_heading: false"]
    lines += ["      show_root_toc_entry: false", "      members: false", ""]
    for name in names_of(module):
        lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)
