"""The fenced blocks of the documentation, and how to run or check each kind of them.

A block is checked unless a comment before it says why not: `<!-- test: not run, REASON -->`.
Lines that begin with `# >` are what the block prints, up to `...`.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from tests.checkout import IMPORTS, REPOSITORY

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent

_NOT_RUN = re.compile(r"<!-- test: not run, (?P<reason>.+) -->\s*")
# What is executed as it stands: quick, and it touches nothing but the page's own server.
_HARMLESS = {"redis-cli", "xargs"}
_BUILTINS = {"cd", "export"}
_SERVERS = {"gunicorn", "uvicorn"}


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        page: the file, from the repository's root.
        line: the number of the first line inside.
        language: what stands after the fence; "" for a block without one.
        code: what is inside.
        reason: why it is not run or checked, by the comment before it; None if it is.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def printed(self) -> str:
        """What the block says that it prints; "" if it says nothing."""
        return "".join(f"{line}\n" for line in re.findall(r"^ *# >(?: (.*))?$", self.code, re.M))

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block, as words, without variables set in front of them."""
        code = self.code.replace("\\\n", " ")
        if self.language == "console":
            code = "\n".join(re.findall(r"^\$ (.*)$", code, re.M))
        without_comments = re.sub(r"(?m)(^|[ \t])#.*$", "", code)
        lexer = shlex.shlex(without_comments, posix=True, punctuation_chars=";|&()<>\n")
        lexer.commenters, lexer.whitespace = "", " \t"
        lexer.whitespace_split = True
        commands: list[list[str]] = [[]]
        is_file = False
        for word in lexer:
            if set(word) <= set("<>"):
                is_file = True
            elif set(word) <= set(";|&()\n"):
                commands.append([])
            elif not is_file and (commands[-1] or not re.match(r"[A-Z_]+=", word)):
                commands[-1].append(word)
            else:
                is_file = False
        return [command for command in commands if command]

    @property
    def is_harmless(self) -> bool:
        """Whether a shell block may be executed by a test; a session in a console is not."""
        if self.language == "console":
            return False
        return bool(self.printed) or {command[0] for command in self.commands} <= _HARMLESS


def blocks() -> list[Block]:
    """Return all blocks of all pages, in order."""
    return [block for page in PAGES for block in _blocks_of(page)]


def _blocks_of(page: str) -> Iterator[Block]:
    before = None
    for token in MarkdownIt().parse((REPOSITORY / page).read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            reason = _NOT_RUN.fullmatch(before.content) if before is not None else None
            yield Block(
                page=page,
                line=token.map[0] + (2 if token.type == "fence" else 1),
                language=token.info.strip() if token.type == "fence" else "(indented)",
                code=token.content,
                reason=reason["reason"] if reason else None,
            )
        before = token if token.type == "html_block" else None


def assert_prints(block: Block, printed: str) -> None:
    """Assert that a block printed what it says, if it says so."""
    if block.printed:
        same = doctest.OutputChecker().check_output(block.printed, printed, doctest.ELLIPSIS)
        assert same, f"{block} says that it prints\n{block.printed}but it prints\n{printed}"


def run_python(block: Block, scope: dict[str, Any], port: int) -> None:
    """Run a block in its page's namespace, with the server at `port` for that on localhost."""
    lines = "\n" * (block.line - 1) + _served(block.code, port)  # tracebacks show the page's lines
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(lines, REPOSITORY / block.page, "exec", dont_inherit=True), scope)
    assert_prints(block, output.getvalue())


def run_shell(block: Block, folder: Path, port: int) -> None:
    """Run a block in a shell in `folder`, with the environment's programs first on PATH."""
    client, programs = shutil.which("redis-cli"), folder / "programs"
    programs.mkdir(exist_ok=True)
    if client is not None:
        (programs / "redis-cli").write_text(f'#!/bin/sh\nexec {client} -p {port} "$@"\n')
        (programs / "redis-cli").chmod(0o755)
    url = f"redis://127.0.0.1:{port}/0"
    path = f"{programs}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _served(block.code, port)],
        cwd=folder,
        env={**os.environ, "PATH": path, "REDIS_URL": url, "PYTHONPATH": IMPORTS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"
    assert_prints(block, done.stdout)


def _served(code: str, port: int) -> str:
    """Return code in which the server is at `port`, wherever it says that it is at 6379."""
    return re.sub(r"\b6379\b", str(port), code.replace("localhost:6379", f"127.0.0.1:{port}"))


def assert_command_exists(words: list[str], files: set[str]) -> None:
    """Assert that a command's program, options, targets and paths exist.

    Args:
        words: the command.
        files: names of files that the pages show, and so tell the reader to write.
    """
    program, *arguments = words
    if program in _BUILTINS:
        return
    if program == "make":
        makefile = (REPOSITORY / "Makefile").read_text()
        allowed = {f"{variable}=" for variable in re.findall(r"\$\((\w+)\)", makefile)}
        allowed |= set(re.findall(r"^([\w-]+):", makefile, re.M))
        assert {re.sub("=.*", "=", word) for word in arguments} <= allowed, words
        return
    if arguments[:1] == ["install"] and program == "pip":
        for before, word in itertools.pairwise(arguments):
            if before in ("-r", "--requirement"):
                assert (REPOSITORY / word).exists(), words
            elif word not in ("-r", "--requirement"):
                _assert_installable(word)
        return
    if program == "python" and arguments[0] == "-m":
        assert find_spec(arguments[1]), words
        call, arguments = [sys.executable, *arguments[:2]], arguments[2:]
    else:
        found = shutil.which(program, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
        assert found, f"{program} is no program; say in a comment why the block is not run"
        call = [found]
    options = [word.partition("=")[0] for word in arguments if re.match(r"--?[A-Za-z]", word)]
    for option in options:
        known = _help(*call, *_subcommand(arguments))
        letters = [f"-{letter}" for letter in option[1:]]  # as in curl -si
        assert any(
            all(re.search(rf"(?<![\w-]){name}(?![\w-])", known) for name in names)
            for names in ([option], letters)
        ), f"{option} of {words}"
    for word in arguments:
        if re.search(r"\.(py|ya?ml|json|toml|txt|md|csv)$", word) and "://" not in word:
            assert word in files or (REPOSITORY / word).exists(), f"{word} of {words}"
        if program in _SERVERS and re.fullmatch(r"[\w.]+:\w+", word):
            module = word.partition(":")[0]
            assert f"{module}.py" in files or find_spec(module), words


def _subcommand(arguments: list[str]) -> list[str]:
    return arguments[:1] if arguments and re.fullmatch(r"[a-z]+", arguments[0]) else []


@cache
def _help(*call: str) -> str:
    more = ["all"] if Path(call[0]).name == "curl" else []
    done = subprocess.run(
        [*call, "--help", *more],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def _assert_installable(requirement: str) -> None:
    match = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
    assert match, requirement
    name, extras = match.groups()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    if name in (".", project["name"]):
        known = set(project["optional-dependencies"])
        assert set((extras or "").split(",")) - {""} <= known, requirement
    else:
        assert metadata.version(name)
