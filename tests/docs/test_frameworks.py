"""The page about model servers shows the files that `make test-frameworks` runs."""

from __future__ import annotations

import re

import pytest

from tests.checkout import REPOSITORY
from tests.docs.blocks import Block, blocks

FOLDER = REPOSITORY / "examples" / "frameworks"
PAGE = (REPOSITORY / "docs" / "frameworks.md").read_text(encoding="utf-8")
SHOWN = [block for block in blocks() if block.page == "docs/frameworks.md" and block.reason]
SERVERS = ["bentoml_service", "kserve_model", "litserve_api", "mlflow_server", "ray_deployment"]


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_a_block_is_its_file(block: Block) -> None:
    found = re.fullmatch(r"it is (part of )?(\S+)", block.reason or "")
    assert found
    is_part, path = found.groups()
    content = (REPOSITORY / path).read_text(encoding="utf-8")
    assert block.code in content
    assert is_part or block.code == content


def test_every_file_is_shown() -> None:
    shown = {(block.reason or "").split()[-1] for block in SHOWN}
    files = {f"examples/frameworks/{path.name}" for path in FOLDER.glob("[!_]*.py")}
    assert shown - files == {"examples/embeddings/__main__.py"}
    assert files - shown == set()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_with_a_cache_takes_forty_lines_at_most(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize("name", ["bentoml", "kserve", "litserve", "mlflow-skinny", "ray[serve]"])
def test_the_versions_are_those_that_are_tested(name: str) -> None:
    lines = (FOLDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (version,) = (line.removeprefix(f"{name}==") for line in lines if line.startswith(f"{name}=="))
    words = {"mlflow-skinny": "MLflow", "ray[serve]": "Ray Serve"}.get(name, name)
    assert re.search(rf"^\| \[{words}\]\S+ \| {re.escape(version)} \|", PAGE, re.M | re.I)


def test_the_output_is_the_readmes() -> None:
    readme = (REPOSITORY / "examples" / "embeddings" / "README.md").read_text(encoding="utf-8")
    (output,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S)
    assert f"```\n{output}```" in readme
