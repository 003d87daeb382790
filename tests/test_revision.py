"""`revision`: which strings are refused, and what is hashed of files and folders."""

from __future__ import annotations

import os
import socket
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import pytest

from model_cache import ConfigurationError, RedisCachingDecorator, revision_of
from model_cache.revision import parse_revision


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a model, `model`, in the current folder, and in it two files."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "model"
    (made / "inner").mkdir(parents=True)
    (made / "weights.bin").write_bytes(b"weights")
    (made / "inner" / "vocabulary.txt").write_bytes(b"words")
    return made


def test_a_file_that_is_not_there_is_named_with_the_folder_that_was_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.bin").write_bytes(b"w")
    absolute = tmp_path / "missing.bin"
    monkeypatch.chdir(tmp_path)
    assert revision_of("weights.bin") == revision_of(tmp_path / "weights.bin")
    with pytest.raises(ConfigurationError) as relative_one:
        revision_of("model/weights.bin")
    assert "'model/weights.bin'" in str(relative_one.value)
    assert f"in the current folder, {str(tmp_path)!r}" in str(relative_one.value)
    with pytest.raises(ConfigurationError) as absolute_one:
        revision_of(absolute)
    assert "current folder" not in str(absolute_one.value)


def test_a_tilde_stands_for_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert revision_of("~/model") == revision_of("model")
    with pytest.raises(ConfigurationError, match="other"):
        revision_of("~/other")


def test_every_change_inside_a_folder_changes_the_revision(folder: Path) -> None:
    seen = [revision_of(folder)]

    def changed() -> bool:
        seen.append(revision_of(folder))
        return seen.count(seen[-1]) == 1

    (folder / "weights.bin").write_bytes(b"other")
    assert changed()
    (folder / "weights.bin").rename(folder / "weights.old")
    assert changed()
    (folder / "weights.old").rename(folder / "inner" / "weights.old")
    assert changed()
    (folder / "empty.txt").touch()
    assert changed()
    names = [unicodedata.normalize(form, "gewürz") for form in ("NFC", "NFD")]
    for name in [*names, "a\nb", os.fsdecode(b"\xff")]:
        (folder / name).touch()
        assert changed()


def test_the_order_in_which_files_were_made_does_not_count(tmp_path: Path) -> None:
    names = ["b", "a/c", "a.d", "Z", "ü"]
    for top, order in (("one", names), ("two", names[::-1])):
        for name in order:
            path = tmp_path / top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    assert revision_of(tmp_path / "one") == revision_of(tmp_path / "two")


def test_links_to_files_and_folders_are_followed(folder: Path) -> None:
    for release in ("first", "second"):
        (folder.parent / release).mkdir()
        (folder.parent / release / "weights").write_text(release)
    link = folder / "current"
    link.symlink_to(folder.parent / "first")
    first = revision_of(folder)
    link.unlink()
    link.symlink_to(folder.parent / "second")
    second = revision_of(folder)
    assert first != second
    link.unlink()
    (folder.parent / "second").rename(link)
    assert revision_of(folder) == second


def test_a_link_that_leads_round_and_round_is_followed_once(folder: Path) -> None:
    link = folder / "inner" / "round"
    revisions = {revision_of(folder)}
    for target in (".", ".."):
        link.symlink_to(target)
        revisions.add(revision_of(folder))
        link.unlink()
    assert len(revisions) == 3


def test_a_path_that_can_not_be_hashed_is_an_error_that_names_it(folder: Path) -> None:
    odd = folder / "inner" / "odd"

    def refused(reason: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            revision_of("model")
        assert "'model/inner/odd'" in str(raised.value)
        assert reason in str(raised.value)
        odd.unlink()
        revision_of("model")

    odd.symlink_to("nowhere")
    refused("No such file")
    odd.symlink_to("odd")
    refused("symbolic links")
    os.mkfifo(odd)
    refused("neither a file nor a folder")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("model/inner/odd")
        refused("neither a file nor a folder")
    if Path("/proc/self/mem").exists():
        odd.symlink_to("/proc/self/mem")
        refused("Input/output error")
    with pytest.raises(ConfigurationError, match="neither a file nor a folder"):
        revision_of(os.devnull)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="folders are locked otherwise on Windows")
def test_a_folder_that_can_not_be_listed_is_an_error_that_names_it(folder: Path) -> None:
    folder.parent.chmod(0o755)
    (folder / "inner").chmod(0)
    child = os.fork()
    if child == 0:  # root may list everything
        if os.geteuid() == 0:
            os.seteuid(65_534)
        try:
            revision_of("model")
        except ConfigurationError as error:
            os._exit(0 if "'model/inner'" in str(error) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    (folder / "inner").chmod(0o755)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "round").symlink_to("..")
    with pytest.raises(ConfigurationError, match="folder without files"):
        revision_of(tmp_path)


def test_the_revision_of_no_files_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"expected a non-empty string .* got"):
        revision_of()
    with pytest.raises(ConfigurationError, match=r"got \(\['a'\],\)"):
        revision_of(["a"])  # type: ignore[arg-type]


def test_a_text_that_names_a_file_or_folder_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    (folder / "dangling").symlink_to("nowhere")
    for text in ("model", "model/", "./model", str(folder), "~/model", "model/weights.bin"):
        with pytest.raises(ConfigurationError) as raised:
            RedisCachingDecorator(revision=text)
        assert f"use a list: [{text!r}]" in str(raised.value)
    with pytest.raises(ConfigurationError, match="is a file"):
        RedisCachingDecorator(revision="model/dangling")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ", "non-empty"),
        ("weights/*.txt", "pattern"),
        ("weights?.bin", "pattern"),
        ("[weights.bin]", "pattern"),
        ("file:///srv/model.bin", "URL"),
        ("s3://bucket/model", "URL"),
        ("${GIT_SHA}", "placeholder"),
        ("v1-$GIT_SHA", "placeholder"),
        ("$(git rev-parse HEAD)", "placeholder"),
        ("`git rev-parse HEAD`", "placeholder"),
        ("{{ sha }}", "placeholder"),
        ("{sha}", "placeholder"),
        ("#{Build.Id}#", "placeholder"),
        ("<sha>", "placeholder"),
        ("<your revision>", "placeholder"),
        ("%SHA%", "placeholder"),
        ("%(sha)s", "placeholder"),
        ("@SHA@", "placeholder"),
    ],
)
def test_a_text_that_never_changes_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        RedisCachingDecorator(revision=text)


@pytest.mark.parametrize(
    "text",
    [
        *("models/x", "model.pkl", "weights.SafeTensors", "./x", "../x", "~/x", "~x"),
        *("C:\\x", "C:/x", "a\\b"),
        *("latest", "Main", "HEAD", "dev", "unknown", "None", "origin/main", "image:latest"),
        "models:/charges/Production",
    ],
)
def test_a_text_that_says_little_is_warned_of(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where none of these files is
    with pytest.warns(
        UserWarning, match="revision: .*(does not change|used as a string)"
    ) as caught:
        RedisCachingDecorator(revision=text)
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize(
    "text",
    [
        *("1", "a1b2c3d", "2026-11-21-a1b2c3d", "v1.0.0", "1.0.dev3", "2026/11/21", "50% a"),
        *("runs:/3f2a", "sha256:9f86d081884c7d65", "release 7", "a$", "ü", "\0", "a" * 5000),
    ],
)
def test_any_other_text_is_taken_as_it_is(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_revision(text) == text


@pytest.mark.parametrize("value", [7, 1.5, b"a", {"a"}, {"a": 1}, [], [""], [7], [["a"]]])
def test_other_than_a_string_or_a_list_of_files_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a non-empty string .*, got"):
        parse_revision(value)
