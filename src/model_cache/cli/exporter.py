"""`export`: entries and memory of each model, and evictions, as Prometheus metrics.

The processes of a service don't know them, and listing all keys takes time. So a separate process
reads them at an interval, and a scrape returns the last result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from model_cache.cli.inventory import ModelEntries, Reader
from model_cache.cli.permissions import with_rule
from model_cache.cli.target import Target
from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.stores.server import RedisStore

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ConfigurationError(
        "export", 'prometheus_client is missing: pip install "ml-model-cache[cli,prometheus]"'
    ) from error

_MODEL = ("prefix", "model", "version")
# Entries read of each version, for their memory.
_SAMPLE = 200
_NUMBER = re.compile(rb"^(\w+):(\d+)\r?$", re.MULTILINE)


class Exporter(Collector):
    """The metrics of a Redis from the last reading; none if Redis failed.

    Args:
        target: the Redis; each reading connects anew, since a failover may change the servers.
        say: prints a message when Redis fails, and when it works again.
    """

    def __init__(self, target: Target, say: Callable[[str], None]) -> None:
        self._target, self._say = target, say
        self._found: tuple[Metric, ...] = ()
        self._failure = ""
        self._has_read = False

    def read(self) -> None:
        """Read the metrics from Redis.

        Raises:
            ConfigurationError: an option of the target is invalid, at the first reading.
        """
        timeout, failure = self._target.timeout, ""
        try:
            with self._target.servers() as servers:
                found = Reader(servers, timeout).take_inventory(lambda _: True, sample=_SAMPLE)
                self._found = (*_of_models(found.models), *_of_servers(servers, timeout))
        except StoreUnavailableError as error:
            self._found, failure = (), with_rule(str(error))
        except ConfigurationError as error:
            if not self._has_read:
                raise
            # A certificate or a password is being renewed.
            self._found, failure = (), str(error)
        self._has_read = True
        if failure != self._failure:
            lost = f"Redis unavailable, no metrics: {failure}"
            self._say(lost if failure else "Redis available again")
            self._failure = failure

    def collect(self) -> Iterable[Metric]:
        """Return the metrics from the last reading."""
        return self._found


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"model_cache_{name}", text, labels=labels)


def _of_models(models: Iterable[ModelEntries]) -> tuple[Metric, ...]:
    number = _gauge("entries", "Entries in Redis.", *_MODEL)
    memory = _gauge("entries_memory_bytes", "Memory of the entries with their keys.", *_MODEL)
    for each in models:
        labels = [each.prefix or "", each.model, each.version]
        number.add_metric(labels, each.entries)
        if each.bytes is not None:
            memory.add_metric(labels, each.bytes)
    return number, memory


def _of_servers(servers: Mapping[str, RedisStore], timeout: float) -> Iterator[Metric]:
    used = _gauge("redis_memory_bytes", "Memory that the server uses.", "server")
    limit = _gauge("redis_memory_limit_bytes", "maxmemory; 0 for no limit.", "server")
    evicted = CounterMetricFamily(
        "model_cache_redis_evicted_keys", "Keys that the server evicted.", labels=["server"]
    )
    for address, server in servers.items():
        reply = server.execute(timeout, b"INFO")
        # Without +info, the reply is an error. The entries are known anyway.
        numbers = dict(_NUMBER.findall(reply)) if isinstance(reply, bytes) else {}
        families = ((used, b"used_memory"), (limit, b"maxmemory"), (evicted, b"evicted_keys"))
        for family, name in families:
            if name in numbers:
                family.add_metric([address], int(numbers[name]))
    yield from (used, limit, evicted)


@contextmanager
def serving(exporter: Exporter, host: str, port: int) -> Iterator[str]:
    """Serve the metrics, and yield their url.

    Raises:
        OSError: it can't listen there, for example because the port is in use.
    """
    registry = CollectorRegistry()
    registry.register(exporter)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise OSError(f"{host}:{port}: {error.strerror} (--host, --port)") from error
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
