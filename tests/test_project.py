"""The project's files are consistent with each other."""

from __future__ import annotations

import inspect
import re
import tomllib
from typing import Any

from packaging.version import Version

import model_cache
from model_cache import RedisCachingDecorator
from tests.checkout import REPOSITORY

_PYPROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = _PYPROJECT["project"]
_VERSION = re.compile(r"Programming Language :: Python :: (3\.\d+)$")
PYTHONS = [found[1] for line in PROJECT["classifiers"] if (found := _VERSION.match(line))]
"""The minor versions of Python that the classifiers name."""


def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    allowed = {}
    for line in [*PROJECT["dependencies"], *extras]:
        name, bound = line.partition(",")[0].split(">=")
        allowed[name.partition("[")[0]] = Version(bound)
    lines = (REPOSITORY / "tests" / "lowest.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    tested = {name: Version(version) for name, version in pins}
    del tested["hiredis"]  # by way of redis[hiredis], whose bound it is
    assert tested == allowed


def test_the_development_tools_have_lowest_versions() -> None:
    groups = _PYPROJECT["dependency-groups"].values()
    tools = [line for group in groups for line in group if isinstance(line, str)]
    assert [line for line in tools if ">=" not in line] == []


def test_the_version_is_the_same_everywhere() -> None:
    assert model_cache.__version__ == PROJECT["version"]


def test_every_option_is_in_the_docstring() -> None:
    options = [*inspect.signature(RedisCachingDecorator).parameters][:-1]
    docstring = inspect.getdoc(RedisCachingDecorator) or ""
    for option in options:
        assert re.search(rf"^ {{4}}{option}: ", docstring, re.M), option


def test_every_relative_link_in_the_readme_leads_somewhere() -> None:
    text = (REPOSITORY / "README.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
