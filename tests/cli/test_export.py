"""`model-cache export`: entries, memory and evictions as Prometheus metrics, over HTTP."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.command import run, spawn
from tests.cli.filling import fill
from tests.faults.topologies import running_cluster
from tests.servers import Server, running_server
from tests.waiting import poll

LABELS = ("prefix", "model", "version", "server")
Samples = dict[tuple[str, ...], float]


class Export:
    """The command, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        lines = iter(process.stdout.readline, "}\n")
        self._url = json.loads("".join(lines) + "}")["url"]

    def scrape(self) -> Samples:
        """Return the values of the samples, by name and values of labels in their order."""
        with urlopen(self._url, timeout=30) as response:
            text = response.read().decode()
        return {
            (
                sample.name,
                *(sample.labels[name] for name in LABELS if name in sample.labels),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@contextlib.contextmanager
def exporting(*words: object, **environment: str) -> Iterator[Export]:
    with spawn("export", "--json", "--port", 0, "--every", 1, *words, **environment) as process:
        try:
            yield Export(process)
        finally:
            process.kill()


def test_it_serves_entries_and_memory_by_model_and_evictions_by_server() -> None:
    with running_server() as server, server.client() as client:
        fill(server.url, 3)
        fill(server.url, 2, prefix="blue", version="2.0.0")
        with exporting("--url", server.url) as export:
            found = export.scrape()
            assert found["model_cache_entries", "", "a_model", "1.0.0"] == 3
            assert found["model_cache_entries", "blue", "a_model", "2.0.0"] == 2
            stats = run("stats", "--url", server.url, "--json").json["models"]
            for each in stats:
                labels = (each["prefix"] or "", each["model"], each["version"])
                assert found["model_cache_entries_memory_bytes", *labels] == each["bytes"]
            [(address, limit)] = [
                (key[1], value) for key, value in found.items() if "limit" in key[0]
            ]
            assert limit == 0
            assert found["model_cache_redis_memory_bytes", address] > 100_000
            assert found["model_cache_redis_evicted_keys_total", address] == 0

            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", "1")  # evicts all that it can
            poll(
                lambda: export.scrape()["model_cache_redis_evicted_keys_total", address] > 0,
                seconds=30,
            )
            assert ("model_cache_entries", "", "a_model", "1.0.0") not in export.scrape()


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_by_ctrl_c_and_as_the_main_process_of_a_container(
    server: Server, ends: signal.Signals
) -> None:
    with exporting("--url", server.url) as export:
        export.process.send_signal(ends)
        _, said = export.process.communicate(timeout=30)
        assert export.process.returncode == 0
    assert "Traceback" not in said


def test_it_goes_on_while_redis_is_down_and_then_has_no_metrics() -> None:
    with running_server() as server:
        server.kill()
        with exporting("--url", server.url) as export:
            assert export.scrape() == {}
            server.start()
            fill(server.url, 3)
            entries = ("model_cache_entries", "", "a_model", "1.0.0")
            poll(lambda: export.scrape().get(entries) == 3, seconds=30)
            server.kill()
            poll(lambda: export.scrape() == {}, seconds=30)
            export.process.send_signal(signal.SIGINT)
            _, said = export.process.communicate(timeout=30)
    assert said.count("Redis unavailable, no metrics: ") >= 2
    assert said.count("Redis available again") == 1
    assert "Traceback" not in said


def test_it_goes_on_while_a_file_is_renewed(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("before")
    with running_server("--requirepass", "before") as server:
        fill(server.url.replace("//", "//:before@"), 3)
        with exporting("--url", server.url, MODEL_CACHE_PASSWORD_FILE=str(file)) as export:
            entries = ("model_cache_entries", "", "a_model", "1.0.0")
            assert export.scrape()[entries] == 3
            file.unlink()
            poll(lambda: export.scrape() == {}, seconds=30)
            with server.client(password="before") as client:
                client.config_set("requirepass", "after")
            file.write_text("after")
            poll(lambda: export.scrape().get(entries) == 3, seconds=30)
            export.process.send_signal(signal.SIGINT)
            _, said = export.process.communicate(timeout=30)
    assert f"Redis unavailable, no metrics: MODEL_CACHE_PASSWORD_FILE: can't read '{file}'" in said


def test_in_a_cluster_it_sums_up_the_entries_of_all_servers() -> None:
    with running_cluster() as cluster:
        fill(cluster.url, 40)
        with exporting("--url", cluster.url) as export:
            found = export.scrape()
    assert found["model_cache_entries", "", "a_model", "1.0.0"] == 40
    assert len([key for key in found if key[0] == "model_cache_redis_memory_bytes"]) == 3


def test_a_login_that_may_not_see_the_server_still_counts_entries() -> None:
    with running_server() as server, server.client() as client:
        fill(server.url, 3)
        rules = {"keys": ["*"], "commands": ["+@all", "-info"]}
        client.acl_setuser("exporter", enabled=True, nopass=True, **rules)
        url = server.url.replace("redis://", "redis://exporter:any@")
        with exporting("--url", url) as export:
            found = export.scrape()
    assert found["model_cache_entries", "", "a_model", "1.0.0"] == 3
    assert not [key for key in found if key[0].startswith("model_cache_redis_")]


def test_a_bad_url_and_a_port_in_use_are_errors(server: Server) -> None:
    assert run("export", "--url", "ftp://here").code == 2
    result = run("export", "--url", server.url, "--port", server.port)
    assert (result.code, result.stdout) == (1, "")
    assert f"127.0.0.1:{server.port}: Address already in use (--host, --port)" in result.stderr


@pytest.mark.parametrize("words", [["export"], ["export", "--json"]])
def test_without_the_extra_it_says_what_to_install(words: list[str]) -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None; import model_cache.cli as c; c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "ml-model-cache[cli,prometheus]"' in done.stderr
