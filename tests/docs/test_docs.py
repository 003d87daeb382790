"""The documentation builds, its code runs, and its tables match the source."""

from __future__ import annotations

import builtins
import html
import importlib
import inspect
import json
import logging
import re
import shutil
import tomllib
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest
import redis
import yaml

import model_cache
from model_cache import Cache, ConfigurationError, RedisCachingDecorator
from model_cache.binding import namesakes
from model_cache.embedded import embedded_url
from tests.checkout import REPOSITORY
from tests.docs.blocks import (
    PAGES,
    Block,
    assert_command_exists,
    blocks,
    run_python,
    run_shell,
)
from tests.models import FunctionModel
from tests.servers import Server

BLOCKS = blocks()
CHECKED = [block for block in BLOCKS if block.reason is None]
OPTIONS = inspect.signature(RedisCachingDecorator).parameters
SHELL = ("bash", "sh", "console")
PARSERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}
# What the page's reader is to look at, not to run: output, rules, formats.
SHOWN = ("text", "promql")  # test_observing.py parses the queries
NOT_RUN = {
    "docs/advise.md": 1,
    "docs/cookbook.md": 2,
    "docs/frameworks.md": 8,
    "docs/observing.md": 1,
    "docs/serving.md": 7,
    "docs/testing.md": 1,
    "docs/tutorial.md": 6,
}
"""How many blocks of each page are not run or checked, at most."""


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in CHECKED if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=str)


def test_every_page_is_built(site: Path) -> None:
    built = {path.stem for path in site.glob("*.html")} - {"404"}
    at_the_root = {"index", "changelog", "contributing"}
    assert built == {Path(page).stem for page in PAGES if page != "README.md"} | at_the_root


def test_the_reference_has_every_public_name(site: Path) -> None:
    reference = (site / "reference.html").read_text(encoding="utf-8")
    documented = re.findall(r'id="model_cache\.(\w+)"', reference)
    assert sorted(documented) == sorted(model_cache.__all__)
    methods = {name for name in vars(RedisCachingDecorator) if not name.startswith("_")}
    listed = re.findall(r'id="model_cache\.RedisCachingDecorator\.(\w+)"', reference)
    assert set(listed) == methods - {"ANSWER_OPTIONS", "drain", "sharing"}  # the two: for Cache
    methods = {name for name in vars(Cache) if not name.startswith("_")}
    listed = re.findall(r'id="model_cache\.Cache\.(\w+)"', reference)
    assert set(listed) == methods - {"join"}


OF_OTHERS = {
    *vars(builtins),
    *typing.__all__,
    *("Path", "timedelta"),
    *("ASGIApp", "BaseModel", "CollectorRegistry", "Lifespan", "MLModel", "SecretBytes"),
    *("SecretStr", "Starlette", "TracerProvider"),
    "Event",  # any of the events, says the page
    *("E", "P", "R", "R_co"),  # stand for the types of what is wrapped
}
"""Names in signatures that readers know, or find in the documentation of other libraries."""


def test_signatures_have_no_names_that_a_reader_can_not_look_up(site: Path) -> None:
    reference = (site / "reference.html").read_text(encoding="utf-8")
    anchors = re.findall(r'id="model_cache\.([\w.]+)"', reference)
    known = OF_OTHERS | {anchor.rpartition(".")[2] for anchor in anchors}
    blocks_ = re.findall(r'<div class="[^"]*doc-signature.*?</code>', reference, re.S)
    assert len(blocks_) > 100
    for block in blocks_:
        text = html.unescape(re.sub(r"<[^>]+>", "", block))
        names = re.findall(r"(?<![\w.])_*[A-Z]\w*", re.sub(r'"[^"]*"', "", text))
        assert set(names) <= known, text
        assert "**unknown" not in text


def test_the_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for path in site.glob("*.html"):
        page = path.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)', page)
        assert fetched == [], path.name


def test_every_block_is_of_a_kind_that_is_run_or_checked() -> None:
    known = {"python", *PARSERS, *SHELL, *SHOWN}
    assert [f"{block}: {block.language}" for block in CHECKED if block.language not in known] == []


def test_no_more_blocks_are_left_out_than_these() -> None:
    assert Counter(block.page for block in BLOCKS if block.reason is not None) <= Counter(NOT_RUN)


@pytest.fixture
def _own_logging() -> Iterator[None]:
    """Undo what a page sets up for the whole process."""
    loggers = [logging.getLogger(name) for name in ("", "model_cache", "model_cache.predictions")]
    before = [(logger.level, logger.handlers[:], logger.filters[:]) for logger in loggers]
    yield
    for logger, (level, handlers, filters) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:], logger.filters[:] = handlers, filters


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_as_it_stands(
    page: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's Python in one namespace, and its harmless commands, in their order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", server.url)
    # A page is a program of its own: its models don't meet those of other pages.
    monkeypatch.setattr(namesakes, "_models", WeakValueDictionary())
    scope: dict[str, Any] = {"__name__": "__main__"}  # as keys cover a class's module
    code = [block for block in CHECKED if block.page == page]
    if any("embedded://" in block.code for block in code):
        with redis.Redis.from_url(embedded_url()) as client:
            client.flushall()
    not_run = []
    for block in code:
        if block.language == "python":
            run_python(block, scope, server.port)
        elif block.language in SHELL and block.is_harmless:
            if "redis-cli" in block.code and shutil.which("redis-cli") is None:
                not_run.append(str(block))
            else:
                run_shell(block, tmp_path, server.port)
    if not_run:
        pytest.skip(f"all ran but what needs redis-cli: {', '.join(not_run)}")


@of(*SHELL)
def test_the_commands_exist(block: Block) -> None:
    texts = [other.code for other in BLOCKS]
    files = {name for text in texts for name in re.findall(r"^# (\S+\.\w+)$", text, re.M)}
    assert block.commands
    for command in block.commands:
        if not block.is_harmless:
            assert_command_exists(command, files)


@pytest.mark.parametrize(
    "command",
    [
        "make tset",
        "pip install ml-model-cache[no-such-extra]",
        "pip install no-such-distribution",
        "python -m examples.no_such_module",
        "python no_such_script.py",
        "uvicorn --no-such-option rest_model_service.main:app",
        "uvicorn no_such_module:app",
        "no-such-program --help",
    ],
)
def test_a_command_that_would_not_work_is_noticed(command: str) -> None:
    with pytest.raises((AssertionError, ModuleNotFoundError)):
        assert_command_exists(command.split(), files=set())


@of(*PARSERS)
def test_the_data_is_parsed(block: Block) -> None:
    assert PARSERS[block.language](block.code)


@of("yaml")
def test_the_yaml_is_accepted_as_it_stands(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_CACHE_DISABLED", "1")
    for content in PARSERS["yaml"](with_files(block.code, tmp_path)):
        if not isinstance(content, dict):
            continue
        if "models" in content:
            accept_service(content)
        elif "decorators" in content:
            for decorator in content["decorators"]:
                imported(decorator["class_path"])(**decorator.get("configuration", {}))
        elif content.keys() & OPTIONS.keys():
            with RedisCachingDecorator(**content) as decorator:
                assert decorator.stats().store == "off"


def with_files(text: str, folder: Path) -> str:
    """Make the files that options name, in `folder`, and return the text that finds them there."""
    etc = "/etc/redis/tls/"
    for name in re.findall(rf"{etc}([\w.]+)", text):
        (folder / name).touch()
    for names in re.findall(r"revision: \[(.*?)\]", text):
        for name in names.split(","):
            (folder / name.strip()).parent.mkdir(parents=True, exist_ok=True)
            (folder / name.strip()).touch()
    return text.replace(etc, f"{folder}/")


def accept_service(content: Mapping[str, Any]) -> None:
    """Build the decorators of a rest_model_service configuration, as it would."""
    configuration = importlib.import_module("rest_model_service.configuration")
    for model in configuration.ServiceConfiguration(**content).models:
        cls = imported(model.class_path)
        decorated: Any = FunctionModel(cls.input_schema, cls.output_schema)
        for decorator in model.decorators or []:
            options = decorator.configuration or {}
            decorated = imported(decorator.class_path)(**options).set_model(decorated)
        decorated.close()


def imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


OPTIONS_PAGE = (REPOSITORY / "docs" / "options.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip("`") for cell in row.split(" | ")]
    for row in re.findall(r"^\| (`\w+` \|.*) \|$", OPTIONS_PAGE, re.M)
]
"""Of each option: its name, type, default, example, and what it does."""


def test_every_option_has_its_row_with_its_default() -> None:
    expected = {name: option.default for name, option in OPTIONS.items() if name != "unknown"}
    assert len(ROWS) == len(expected)
    assert {row[0]: row[2] for row in ROWS} == {
        name: str(default).lower() if isinstance(default, bool | None) else str(default)
        for name, default in expected.items()
    }


@pytest.fixture
def my_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's own package, which examples of import paths lead into."""
    (tmp_path / "my_service").mkdir()
    (tmp_path / "my_service" / "rules.py").write_text("def is_plausible(*both): return True\n")
    login = "class Login:\n    def get_credentials(self): return ('user', 'token')\n"
    (tmp_path / "my_service" / "logins.py").write_text(login)
    (tmp_path / "my_service" / "hooks.py").write_text("def watch(event): return None\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("my_service")
@pytest.mark.parametrize(("name", "example"), [(row[0], row[3]) for row in ROWS])
def test_the_example_of_an_option_is_accepted(name: str, example: str, tmp_path: Path) -> None:
    options = yaml.safe_load(with_files(example, tmp_path))
    assert name in options
    with RedisCachingDecorator(**{"enabled": False, **options}) as decorator:
        assert decorator.stats().store == "off"


@pytest.mark.parametrize(("name", "type_"), [row[:2] for row in ROWS if " to " in row[1]])
def test_the_bounds_of_an_option_are_those_of_its_row(name: str, type_: str) -> None:
    least, most = re.findall(r"-?[\d.,]*\d", type_)
    options: Any = {
        "number_of_places": {"reduced_precision": True},
        "stale_if_error": {"ttl": 1},
        "expected_entries": {"layout": "packed"},
    }
    for value in (least, most):
        beyond = float(value.replace(",", ""))
        beyond += -1 if value is least else 1
        beyond = int(beyond) if "seconds" not in type_ else beyond
        with pytest.raises(ConfigurationError, match=rf"{name}: .* from {least} to {most}\b"):
            RedisCachingDecorator(**{name: beyond, **options.get(name, {})})


def test_every_form_of_url_is_accepted() -> None:
    urls = re.findall(r"^\| `(\w[\w+]*://[^`]*\w)`", OPTIONS_PAGE, re.M)
    assert len(urls) == 4
    for url in [*urls, "embedded://"]:
        with RedisCachingDecorator(url=re.sub(r"[\[\]]", "", url), enabled=False) as decorator:
            assert decorator.stats().store == "off"
