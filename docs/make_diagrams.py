"""Writes the tables of the machines, as the code has them, into docs/design.md; ``--check`` only compares.

The diagram is generated so that it cannot be wrong: states and events come from TRANSITIONS, commands from the type
annotations and bodies of the handlers.
"""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import sys
import textwrap

from anyio_client._core import call, pool
from anyio_client._core.call import TRANSITIONS, Call, CallState

DESIGN = pathlib.Path(__file__).parent / "design.md"
COMMANDS = ["Authorize", "Send", "Read", "Wait", "Deliver", "Reject", "Fail"]


def commands_of(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """The commands that a method of the machine may return: those that it makes, and those of the methods it calls."""
    if name in seen:
        return set()
    method = getattr(Call, name, None)
    if not inspect.isfunction(method):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in COMMANDS:
                found.add(node.func.id)
            elif isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "self":
                found |= commands_of(node.func.attr, seen | {name})
    return found


def call_table() -> str:
    events = ["Begin", "Authorized", "HeadReceived", "ResultReady", "AttemptFailed", "Woke", "Expired"]
    lines = ["| state | " + " | ".join(events) + " |", "|---|" + "---|" * len(events)]
    for state in CallState:
        row = {event.__name__: handler.__name__ for event, handler in TRANSITIONS[state].items()}
        cells = [
            ", ".join(c for c in COMMANDS if c in commands_of(row[event])) if event in row else "" for event in events
        ]
        lines.append(f"| {state.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pool_table() -> str:
    def doc(cls: type) -> str:
        text = inspect.getdoc(cls) or ""
        own = "" if text.startswith(("Method generated", cls.__name__ + "(")) else text.split("\n\n")[0]
        return " ".join(own.split())

    lines = ["| | carries | means |", "|---|---|---|"]
    for kind, alias in (("event", pool.PoolEvent), ("command", pool.PoolCommand)):
        for cls in alias.__args__:
            fields = ", ".join(a.name for a in cls.__attrs_attrs__)
            lines.append(f"| {kind} `{cls.__name__}` | {fields} | {doc(cls)} |")
    return "\n".join(lines)


def render(text: str) -> str:
    for name, table in (("call", call_table()), ("pool", pool_table())):
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert pattern.search(text), name
        text = pattern.sub(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)  # type: ignore[misc]
    return text


def main() -> int:
    assert call.__doc__
    old = DESIGN.read_text()
    new = render(old)
    if "--check" in sys.argv:
        if new != old:
            print("docs/design.md has old tables: run `make docs`")
        return int(new != old)
    DESIGN.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
