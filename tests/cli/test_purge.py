"""`model-cache purge` deletes what it announces, after asking, and never a foreign key."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest
import redis

from model_cache import RedisCachingDecorator, StoreUnavailableError
from model_cache.cli.purge import Selection, delete, plan
from model_cache.cli.target import Target
from tests import stored
from tests.checkout import IMPORTS
from tests.cli.command import PROGRAM, Result, acting_as, run, run_apart
from tests.cli.filling import DIGEST, fill
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.observing.heard import outcome
from tests.servers import Server


def test_one_version_is_deleted_and_the_others_stay(server: Server, client: redis.Redis) -> None:
    fill(server.url, 5)
    fill(server.url, 4, version="2.0.0")
    fill(server.url, 3, prefix="p")
    words = ("purge", "--url", server.url, "--model", "a_model", "--yes", "--json")
    result = run(*words, "--version", "1.0.0")
    assert result.code == 0
    assert result.json == {
        "model": "a_model",
        "entries": [{"prefix": None, "version": "1.0.0", "entries": 5, "buckets": 0}],
        "dry_run": False,
        "deleted": 5,
    }
    assert "a_model 1.0.0: 5 entries" in result.stderr
    assert entries(client) == 7
    assert groups(run(*words)) == [(None, "2.0.0", 4)]
    assert run(*words).json["deleted"] == 0
    assert groups(run(*words, "--prefix", "p")) == [("p", "1.0.0", 3)]
    assert entries(client) == 0


def entry_keys(client: redis.Redis) -> list[bytes]:
    """All keys but the generations and the counts, which a purge leaves."""
    return stored.entries(client)


def entries(client: redis.Redis) -> int:
    return len(entry_keys(client))


def groups(result: Result) -> list[tuple[str | None, str, int]]:
    names = ("prefix", "version", "entries")
    return [tuple(each[name] for name in names) for each in result.json["entries"]]


def test_all_versions_but_some_go(server: Server, client: redis.Redis) -> None:
    for version in ("1", "2", "3"):
        fill(server.url, 2, version=version)
    fill(server.url, 1, version="1", name="other")
    words = ("purge", "--url", server.url, "--model", "a_model", "--yes", "--json")
    result = run(*words, "--all-but", "2", "--all-but", "3")
    assert groups(result) == [(None, "1", 2)]
    assert groups(run(*words, "--all-but", "3")) == [(None, "2", 2)]
    left = run(*words, "--all-but", "3")
    assert (left.code, left.json["deleted"]) == (0, 0)
    assert entries(client) == 3
    assert run(*words[:4], "missing", *words[5:], "--all-but", "3").code == 0


def test_a_misspelt_version_does_not_cost_all_entries(server: Server, client: redis.Redis) -> None:
    fill(server.url, 2, version="1.0.0")
    result = run(
        "purge", "--url", server.url, "--model", "a_model", "--yes", "--all-but", "1.0"
    )  # fmt: skip
    assert (result.code, result.stdout) == (2, "")
    assert "version '1.0' has no entries; did you mean '1.0.0'?" in result.stderr
    assert entries(client) == 2


def test_all_prefixes_go_and_other_models_stay(server: Server, client: redis.Redis) -> None:
    fill(server.url, 1)
    fill(server.url, 2, prefix="blue")
    fill(server.url, 3, prefix="green/*", version="2.0.0")
    others = [
        fill(server.url, 1, name="x_a_model"),
        fill(server.url, 1, name="other", prefix="a_model"),
        fill(server.url, 1, name="other", version="a_model"),
        fill(server.url, 1, name="a_model/1", version="2"),
    ]
    words = ("purge", "--url", server.url, "--model", "a_model", "--yes", "--json")
    one = run(*words, "--all-prefixes", "--version", "2.0.0")
    assert groups(one) == [("green/*", "2.0.0", 3)]
    result = run(*words, "--all-prefixes")
    assert groups(result) == [(None, "1.0.0", 1), ("blue", "1.0.0", 2)]
    assert result.json["deleted"] == 3
    assert {key.decode() for key in entry_keys(client)} == set(others)


@pytest.mark.parametrize(
    "words", [["--version", "1", "--all-but", "2"], ["--prefix", "p", "--all-prefixes"]]
)
def test_options_that_contradict_each_other_are_refused(server: Server, words: list[str]) -> None:
    result = run("purge", "--url", server.url, "--model", "a_model", "--yes", *words)
    assert (result.code, result.stdout) == (2, "")
    assert "can't be combined with" in result.stderr


def test_a_service_does_not_store_what_it_computed_before_the_purge(
    server: Server, client: redis.Redis
) -> None:
    fill(server.url, 1)

    def purged_meanwhile(data: Person) -> Charges:
        assert run("purge", "--url", server.url, "--model", "a_model", "--yes").code == 0
        return charge(data)

    model = FunctionModel(function=purged_meanwhile, qualified_name="a_model", version="1.0.0")
    with RedisCachingDecorator(url=server.url).set_model(model) as decorator:
        decorator.predict(person(age=60))
        assert (outcome().kind, outcome().fate) == ("miss", "dropped")
    assert client.pttl(decorator.cache_key(person(age=60))) <= 1


@pytest.mark.parametrize("by_command", [True, False])
def test_a_full_redis_can_be_purged(
    server: Server, client: redis.Redis, request: pytest.FixtureRequest, by_command: bool
) -> None:
    for number in range(4):
        client.set(f"a_model/1.0.0/{number}{DIGEST[1:]}", b"x" * 1_000_000)
    used = int(client.info("memory")["used_memory"])
    request.addfinalizer(lambda: client.config_set("maxmemory", 0))
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", used - 1_000_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("any", "x")
    if by_command:
        result = run("purge", "--url", server.url, "--model", "a_model", "--yes", "--json")
        assert result.json["deleted"] == 4
    else:
        model = FunctionModel(qualified_name="a_model", version="1.0.0")
        with RedisCachingDecorator(url=server.url).set_model(model) as decorator:
            assert decorator.purge() == 4
    assert client.exists("a_model/1.0.0/generation")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, StoreUnavailableError])
def test_a_purge_that_stops_says_how_many_entries_are_deleted(
    server: Server, client: redis.Redis, failure: type[BaseException]
) -> None:
    client.mset({f"a_model/1/{number:022}": "{}" for number in range(1200)})
    said: list[str] = []
    with Target(server.url, proxied=False, timeout=5.0).store() as store:
        planned = plan(store, 5.0, Selection("a_model"))

        def stop(done: int) -> None:
            if done == 1000 and failure is KeyboardInterrupt:
                raise KeyboardInterrupt
            if done == 1000:
                client.acl_setuser("default", enabled=True, commands=["-unlink"])

        try:
            with pytest.raises(failure):
                delete(store, planned.keys, 5.0, said.append, stop)
        finally:
            client.acl_setuser("default", enabled=True, commands=["+unlink"])
    assert said == ["stopped after deleting at least 1,000 of 1,200 entries"]
    assert entries(client) == 200


def test_a_foreign_key_is_never_deleted(server: Server, client: redis.Redis) -> None:
    fill(server.url, 3)
    foreign = [
        "a_model",
        "a_model/1.0.0",
        "a_model/1.0.0/notes",
        f"a_model/1.0.0/{DIGEST}x",
        f"a_model/1.0.0/{DIGEST[:-1]}!",
        f"a_model/{DIGEST}",
        f"a_model/1.0.0/more/{DIGEST}",  # of model 1.0.0 under prefix a_model
        f"a_model/a/b/c/{DIGEST}",
        f"a_modelX/1.0.0/{DIGEST}",
        f"Xa_model/1.0.0/{DIGEST}",
        f"x/a_model/1.0.0/{DIGEST}",
        f"{{a_model/1.0.0/{DIGEST}}}:lease",
        f"a_model/1 0/{DIGEST}",
        f"a_model/1%2e0/{DIGEST}",
    ]
    for key in foreign:
        client.set(key, "x")
    result = run("purge", "--url", server.url, "--model", "a_model", "--yes", "--json")
    assert result.json["deleted"] == 3
    assert set(entry_keys(client)) == {key.encode() for key in foreign}


@pytest.mark.parametrize("name", ["*", "a_mode?", "a_[m]odel", "%", "a_model/1.0.0", ""])
def test_a_name_is_not_a_pattern(server: Server, client: redis.Redis, name: str) -> None:
    fill(server.url, 2)
    result = run("purge", "--url", server.url, "--model", name, "--yes", "--json")
    assert (result.code, result.json["deleted"]) == (0, 0)
    assert entries(client) == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["a_modl"], "did you mean 'a_model'?"),
        (["zzz"], "known: 'a_model', 'other'"),
        (["a_model", "--version", "3"], "it has versions '1.0.0', '2.0.0'"),
        (["other"], "it has entries under prefix 'blue', 'green'"),
        (["a_model", "--prefix", "p"], "it has entries without a prefix"),
    ],
)
def test_if_nothing_matches_it_says_what_there_is(
    server: Server, client: redis.Redis, words: list[str], hint: str
) -> None:
    fill(server.url, 1)
    fill(server.url, 1, version="2.0.0")
    fill(server.url, 1, name="other", prefix="blue")
    fill(server.url, 1, name="other", prefix="green")
    result = run("purge", "--url", server.url, "--yes", "--model", *words)
    assert (result.code, result.stdout) == (0, "deleted 0 entries\n")
    assert hint in result.stderr
    assert entries(client) == 4


def test_an_empty_redis_is_reported(server: Server) -> None:
    result = run("purge", "--url", server.url, "--yes", "--model", "a_model")
    assert "there are no entries" in result.stderr


def test_a_dry_run_deletes_nothing(server: Server, client: redis.Redis) -> None:
    fill(server.url, 2)
    result = run("purge", "--url", server.url, "--model", "a_model", "--dry-run")
    assert result.code == 0
    assert "would delete 2 entries" in result.stdout
    assert entries(client) == 2


def test_without_a_terminal_it_refuses(server: Server, client: redis.Redis) -> None:
    fill(server.url, 2)
    for result in (
        run("purge", "--url", server.url, "--model", "a_model", stdin="y\n"),
        run_apart("purge", "--url", server.url, "--model", "a_model"),
    ):
        assert (result.code, result.stdout) == (2, "")
        assert "--yes" in result.stderr
    assert entries(client) == 2


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 2), ("\x03", 130, 2)])
def test_on_a_terminal_it_asks(
    server: Server, client: redis.Redis, answer: str, code: int, left: int
) -> None:
    fill(server.url, 2)
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "purge", "--url", server.url, "--model", "a_model"],
        env={**os.environ, "PYTHONPATH": IMPORTS, "TERM": "xterm"},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(end)
    shown = ""
    try:
        while "[y/N]" not in shown:
            shown += os.read(terminal, 4096).decode()
        os.write(terminal, answer.encode() + b"\n")
        while True:
            try:
                shown += os.read(terminal, 4096).decode()
            except OSError:  # its end
                break
        assert process.wait(30) == code
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert "a_model 1.0.0: 2 entries" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert entries(client) == left


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_login_that_may_not_delete_gets_an_error(server: Server, client: redis.Redis) -> None:
    fill(server.url, 2, name="insurance_charges_model")
    with acting_as("predictor", server) as environment:
        result = run("purge", "--model", "insurance_charges_model", "--yes", **environment)
    assert (result.code, result.stdout) == (3, "")
    assert "NOPERM" in result.stderr
    assert "missing rule: ACL SETUSER <user> +scan" in result.stderr
    assert environment["MODEL_CACHE_PASSWORD"] not in result.stderr
    assert entries(client) == 2


def test_through_a_proxy_it_is_refused(server: Server) -> None:
    result = run("purge", "--url", server.url, "--proxied", "--model", "a_model", "--yes")
    assert result.code == 2
    assert "SCAN" in result.stderr
