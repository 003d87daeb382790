"""The GitHub workflow and the pre-commit hooks are valid, and run what the Makefile runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import REPOSITORY
from tests.test_project import PYTHONS

WORKFLOW = REPOSITORY / ".github" / "workflows" / "test.yml"
HOOKS = REPOSITORY / ".pre-commit-config.yaml"
BIN = Path(sys.executable).parent


def checked(*command: str | Path) -> str:
    """Run a checker of the test environment, and return what it finds."""
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def workflow_findings(path: Path) -> list[str]:
    schema = ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)
    # actionlint runs them on the scripts if they are on PATH.
    actionlint = ("actionlint", "-shellcheck=", "-pyflakes=", path)
    zizmor = ("zizmor", "--offline", "--no-progress", "--pedantic", path)
    return [checked(*words) for words in (schema, actionlint, zizmor)]


def test_the_workflow_has_no_faults_that_checkers_know() -> None:
    assert workflow_findings(WORKFLOW) == ["", "", ""]


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("fail-fast: false", "fail-fast: 0", "is not of type 'boolean'"),
        ("matrix.python }}", "matrix.pyton }}", 'property "pyton" is not defined'),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
    ],
)
def test_the_checkers_find_planted_faults(
    right: str, wrong: str, message: str, tmp_path: Path
) -> None:
    text = WORKFLOW.read_text()
    assert right in text
    (tmp_path / "test.yml").write_text(text.replace(right, wrong))
    assert message in "".join(workflow_findings(tmp_path / "test.yml"))


def test_the_workflow_tests_each_version_of_python_that_the_classifiers_name() -> None:
    linux = yaml.safe_load(WORKFLOW.read_text())["jobs"]["linux"]
    assert linux["strategy"]["matrix"]["python"] == PYTHONS
    assert "make test PYTHON=python" in [step.get("run") for step in linux["steps"]]


def test_every_job_may_only_read_and_every_action_is_pinned() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        for action in filter(None, (step.get("uses") for step in job["steps"])):
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)


def test_the_hooks_are_valid_and_need_no_downloads() -> None:
    assert checked("pre-commit", "validate-config", HOOKS) == ""
    assert [repo["repo"] for repo in yaml.safe_load(HOOKS.read_text())["repos"]] == ["local"]


def test_the_hooks_are_the_checks_that_make_test_begins_with() -> None:
    hooks: list[dict[str, Any]] = yaml.safe_load(HOOKS.read_text())["repos"][0]["hooks"]
    line = re.search(r"^test: (.+?) ##", (REPOSITORY / "Makefile").read_text(), re.M)
    assert line
    checks = [target for target in line[1].split() if not target.startswith("test-")]
    assert [hook["entry"] for hook in hooks] == [f"make {check}" for check in checks]
