"""The ACL rules in docs/security.md, and logins with these rules."""

from __future__ import annotations

import re
from typing import Any

import redis

from tests.checkout import REPOSITORY
from tests.servers import Server

DOC = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
MODEL = "insurance_charges_model"
RULES = {line.split()[2]: line.split() for line in re.findall(r"^ACL SETUSER .*$", DOC, re.M)}


def login(user: str) -> dict[str, Any]:
    password = next(word[1:] for word in RULES[user] if word.startswith(">"))
    return {"username": user, "password": password}


def apply(rule: str, server: Server) -> redis.Redis:
    """Make the user of a rule, and return a client that is logged in as that user."""
    with server.client() as admin:
        execute: Any = admin.execute_command
        execute(*RULES[rule])
    return server.client(protocol=2, driver_info=None, decode_responses=True, **login(rule))
