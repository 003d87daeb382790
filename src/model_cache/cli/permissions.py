"""Redis access control (ACL): which rule a login lacks when the server answers NOPERM."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"NOPERM .*run the '([^']+)' command")


def missing_rule(reply: object, keys: str = "[PREFIX/]MODEL/*") -> str | None:
    """Return the ACL rule that a NOPERM error asks for; None for any other reply or message."""
    text = str(reply)
    if "NOPERM" not in text:
        return None
    command = _COMMAND.search(text)
    return f"+{command[1]}" if command else f"~{keys}"


def with_rule(message: str) -> str:
    """Return a message; if it quotes a NOPERM error, with the ACL rule that is missing."""
    rule = missing_rule(message)
    return message if rule is None else f"{message}; missing rule: {grant(rule)}"


def grant(*rules: str) -> str:
    """Return the command that adds rules to a login."""
    return f"ACL SETUSER <user> {' '.join(rules)}"
