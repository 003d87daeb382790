"""Topologies of real servers: a Redis Cluster, a Sentinel pair, Twemproxy and two servers.

All of it is started by the test, on free ports of 127.0.0.1, and stopped with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.retry import Retry

from model_cache.embedded import find_server
from tests.faults.load import wait_until
from tests.servers import Server, free_port, running_server

SHARDS = 3
SERVICE = "cache"
# Of Sentinels, in milliseconds: else they need ten seconds to see that a primary is one no more.
_PERIODS = ("INFO-PERIOD", "500", "PUBLISH-PERIOD", "500", "ASK-PERIOD", "200")


def ask(server: Server, *words: str | int, password: str | None = None) -> Any:
    """Return a server's reply to a command."""
    with server.client(
        password=password, retry=Retry(NoBackoff(), 0), decode_responses=True, socket_timeout=5
    ) as client:
        # In two words, so that redis-py does not take it apart.
        return client.execute_command(*words)


def answers(condition: Callable[[], object]) -> Callable[[], object]:
    """Return the same condition, which does not hold while a server does not answer."""

    def holds() -> object:
        try:
            return condition()
        except (redis.RedisError, OSError, ValueError, IndexError):
            return False

    return holds


def _start_all(make: Callable[[], Server], count: int) -> list[Server]:
    """Start servers at once; if one can't be, stop the others."""
    with ThreadPoolExecutor(count) as pool:
        starting = [pool.submit(_start, make) for _ in range(count)]
    failed = [each.exception() for each in starting if each.exception()]
    started = [each.result() for each in starting if not each.exception()]
    for error in failed:
        for server in started:
            server.stop()
        raise RuntimeError("a server did not start") from error
    return started


def _start(make: Callable[[], Server]) -> Server:
    for _ in range(2):
        with contextlib.suppress(RuntimeError):  # somebody else took a port that was free
            return make()
    return make()


class Cluster:
    """A Redis Cluster of three primaries and three replicas.

    Args:
        password: of all nodes.
        full_coverage: whether it serves nothing once a slot is lost.
    """

    def __init__(self, *, password: str | None = None, full_coverage: bool = False) -> None:
        self.password = password
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        options += ["--cluster-require-full-coverage", "yes" if full_coverage else "no"]
        options += ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]
        options += ["--cluster-allow-replica-migration", "no"]
        if password is not None:
            options += ["--requirepass", password, "--masterauth", password]

        self._options = options
        try:
            self._form()
        except redis.ResponseError:  # another cluster still greets a node that had the same port
            self._form()

    def _form(self) -> None:
        self.nodes = _start_all(self._make_node, 2 * SHARDS)
        try:
            self._join()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """With nodes of two shards."""
        return self.url_of(self.nodes[0].port, self.nodes[1].port)

    def url_of(self, *ports: int) -> str:
        """Return the url with other nodes to start from."""
        login = f":{self.password}@" if self.password else ""
        return f"redis+cluster://{login}{','.join(f'127.0.0.1:{port}' for port in ports)}"

    def ask(self, node: Server, *words: str | int) -> Any:
        return ask(node, *words, password=self.password)

    def _make_node(self) -> Server:
        return Server(*self._options, "--cluster-port", str(free_port()))

    def add_node(self) -> Server:
        """Let a new primary join, which has no slots yet."""
        node = self._make_node()
        self.nodes.append(node)
        self._meet(node)
        self._wait_for_acquaintance()
        wait_until(self.works, "the new node sees that all is well")
        return node

    def _meet(self, node: Server) -> None:
        self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, node.options[-1])

    def _wait_for_acquaintance(self) -> None:
        wait_until(
            answers(lambda: all(self._knows_all(node) for node in self.nodes)),
            "the nodes know each other",
        )

    def _join(self) -> None:
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node is not first:
                self._meet(node)
        for number, primary in enumerate(self.nodes[:SHARDS]):
            bounds = [REDIS_CLUSTER_HASH_SLOTS * end // SHARDS for end in (number, number + 1)]
            self.ask(primary, "CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
        self._wait_for_acquaintance()
        for primary, replica in zip(self.nodes[:SHARDS], self.nodes[SHARDS:], strict=True):
            self.ask(replica, "CLUSTER", "REPLICATE", self.node_id(primary))
        wait_until(self.is_whole, "the cluster is whole")

    def _knows_all(self, node: Server) -> bool:
        table = self.ask(node, "CLUSTER", "NODES")
        return table.count(" connected") == len(self.nodes) and "handshake" not in table

    def node_id(self, node: Server) -> str:
        return str(self.ask(node, "CLUSTER", "MYID"))

    def primary_of(self, slot: int, asked: Server | None = None) -> Server:
        """Return the node that has a slot, by the word of one that is alive."""
        port = next(
            shard[2][1]
            for shard in self.ask(asked or self._living()[0], "CLUSTER", "SLOTS")
            if shard[0] <= slot <= shard[1]
        )
        return next(node for node in self.nodes if node.port == port)

    def move(self, slot: int, target: Server, *, losing: bool = False) -> None:
        """Move a slot to another primary, with its keys, or losing them on the way."""
        source = self.primary_of(slot)
        from_id, to_id = self.node_id(source), self.node_id(target)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
        if losing:  # who asks for them meanwhile is sent after them (ASK), and so is the write
            for key in self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
                self.ask(source, "DEL", key)
            time.sleep(0.02)
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            login = ("AUTH", self.password) if self.password else ()
            place = ("127.0.0.1", target.port, "", 0, 5000, "REPLACE")
            self.ask(source, "MIGRATE", *place, *login, "KEYS", *keys)
        for node in (target, source):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", to_id)

    def _living(self) -> list[Server]:
        return [node for node in self.nodes if node.process is not None]

    def _is_replica(self, node: Server) -> bool:
        return "role:slave" in self._section(node)

    def _section(self, node: Server) -> str:
        with node.client(password=self.password, retry=Retry(NoBackoff(), 0)) as client:
            client.set_response_callback("INFO", lambda reply: reply.decode())
            return str(client.execute_command("INFO", "replication"))

    def is_whole(self) -> object:
        """Whether all nodes are up and say that all is well, the replicas having their data."""
        return len(self._living()) == len(self.nodes) and self.works()

    def works(self) -> object:
        """Whether the nodes that are alive agree that they have all slots."""
        return answers(lambda: all(self._is_well(node) for node in self._living()))()

    def _is_well(self, node: Server) -> bool:
        slots = self.ask(node, "CLUSTER", "SLOTS")
        ports = {node.port for node in self._living()}
        section = self._section(node)
        return (
            "cluster_state:ok" in self.ask(node, "CLUSTER", "INFO")
            and {shard[2][1] for shard in slots} <= ports
            and sum(shard[1] - shard[0] + 1 for shard in slots) == REDIS_CLUSTER_HASH_SLOTS
            and ("role:master" in section or "master_link_status:up" in section)
        )

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


@contextlib.contextmanager
def running_cluster(
    *, password: str | None = None, full_coverage: bool = False
) -> Iterator[Cluster]:
    cluster = Cluster(password=password, full_coverage=full_coverage)
    try:
        yield cluster
    finally:
        cluster.stop()


@contextlib.contextmanager
def running_node_behind_nat() -> Iterator[tuple[Server, str]]:
    """A cluster of one server, and the address that it announces, where nobody listens."""
    port = free_port()
    options = ("--cluster-enabled", "yes", "--cluster-announce-port", str(port))
    with running_server(*options, "--cluster-port", str(free_port())) as server:
        ask(server, "CLUSTER", "ADDSLOTSRANGE", 0, REDIS_CLUSTER_HASH_SLOTS - 1)
        ask(server, "CONFIG", "SET", "cluster-announce-ip", "127.0.0.1")
        wait_until(lambda: "cluster_state:ok" in ask(server, "CLUSTER", "INFO"), "it works")
        yield server, f"127.0.0.1:{port}"


def cut_off_from_primary(
    replica: Server, password: str | None, *, serves_stale_data: bool = False
) -> None:
    """Cut a replica off from its primary, so that it answers MASTERDOWN, or old data."""
    with replica.client(password=password) as client:
        client.config_set("replica-serve-stale-data", "yes" if serves_stale_data else "no")
        client.config_set("masterauth", "not-the-password")
        client.execute_command("CLIENT", "KILL", "TYPE", "master")
        wait_until(
            lambda: client.info("replication")["master_link_status"] == "down",
            "the replica has lost its primary",
        )


class Sentinel(Server):
    """A Sentinel that watches one primary."""

    def __init__(self, primary: Server, password: str | None, own_password: str | None) -> None:
        self._lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        if password is not None:
            self._lines.append(f"sentinel auth-pass {SERVICE} {password}")
        if own_password is not None:
            self._lines += [f"requirepass {own_password}", f"sentinel sentinel-pass {own_password}"]
        super().__init__()

    def command(self) -> list[str]:
        file = self.folder / "sentinel.conf"
        if not file.exists():  # later it is the Sentinel's own
            lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", *self._lines]
            file.write_text("\n".join(lines) + "\n")
        return [str(find_server()), str(file), "--sentinel"]


class SentinelPair:
    """A primary and its replica, watched by three Sentinels.

    Args:
        password: of the two servers.
        sentinel_password: of the Sentinels.
    """

    def __init__(self, password: str | None = None, sentinel_password: str | None = None) -> None:
        self.password, self.sentinel_password = password, sentinel_password
        options = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
        if password is not None:
            options += ["--requirepass", password, "--masterauth", password]
        self.servers = [Server(*options)]
        self.sentinels: list[Server] = []
        try:
            self.servers.append(
                Server("--replicaof", "127.0.0.1", str(self.servers[0].port), *options)
            )
            wait_until(lambda: self._is_in_step(self.servers[1]), "the replica has the data")
            self.sentinels = _start_all(
                lambda: Sentinel(self.servers[0], password, sentinel_password), 3
            )
            for each in self.sentinels:
                ask(each, "SENTINEL", "DEBUG", *_PERIODS, password=sentinel_password)
            wait_until(answers(self._watched), "the Sentinels know each other and the replica")
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return self.url_of(*[sentinel.port for sentinel in self.sentinels])

    def url_of(self, *ports: int, service: str = SERVICE, database: int = 0) -> str:
        """Return the url with other Sentinels, of another service, or to another database."""
        nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
        login = f":{self.password}@" if self.password else ""
        query = f"?sentinel_password={self.sentinel_password}" if self.sentinel_password else ""
        return f"redis+sentinel://{login}{nodes}/{service}/{database}{query}"

    def fail_over(self) -> None:
        """Tell a Sentinel to make the replica the primary."""
        ask(self.sentinels[0], "SENTINEL", "FAILOVER", SERVICE, password=self.sentinel_password)

    def primary(self) -> Server:
        """Return the primary, by the word of all Sentinels.

        Raises:
            ValueError: they do not agree, or it is not one yet.
        """
        ports = {
            int(
                ask(
                    each,
                    "SENTINEL",
                    "GET-MASTER-ADDR-BY-NAME",
                    SERVICE,
                    password=self.sentinel_password,
                )[1]
            )
            for each in self.sentinels
        }
        primary = (
            next(server for server in self.servers if {server.port} == ports)
            if len(ports) == 1
            else None
        )
        if primary is None or self._role(primary) != "master":
            raise ValueError("no primary that all agree on")
        return primary

    def has_primary(self, server: Server) -> bool:
        """Whether a server is the primary, and all Sentinels say so."""
        return bool(answers(lambda: self.primary() is server)())

    def is_replica(self, server: Server) -> bool:
        """Whether a server is a replica with all data."""
        return bool(answers(lambda: self._is_in_step(server))())

    def _role(self, server: Server) -> str:
        return str(ask(server, "ROLE", password=self.password)[0])

    def _is_in_step(self, server: Server) -> bool:
        role = ask(server, "ROLE", password=self.password)
        return bool(role[0] == "slave" and role[3] == "connected")

    def _watched(self) -> bool:
        for each in self.sentinels:
            with each.client(
                password=self.sentinel_password, retry=Retry(NoBackoff(), 0)
            ) as client:
                state: Any = client.sentinel_master(SERVICE)
                if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                    return False
        return True

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()


@contextlib.contextmanager
def running_sentinel_pair(
    password: str | None = None, sentinel_password: str | None = None
) -> Iterator[SentinelPair]:
    pair = SentinelPair(password, sentinel_password)
    try:
        yield pair
    finally:
        pair.stop()


def find_nutcracker() -> str:
    """Return Twemproxy's binary; without one, skip the test, or fail if it was promised."""
    found = shutil.which("nutcracker") or shutil.which(
        "nutcracker", path="/usr/sbin:/usr/local/sbin"
    )
    if found is None and os.environ.get("REQUIRE_NUTCRACKER"):
        pytest.fail("REQUIRE_NUTCRACKER is set, and there is no nutcracker: apt install nutcracker")
    if found is None:
        pytest.skip("there is no nutcracker (Twemproxy): apt install nutcracker")
    return found


class Twemproxy:
    """Twemproxy before two servers; it leaves out one that does not answer.

    Args:
        password: of the two servers and of the proxy.
        timeout: how long it waits for a server, in milliseconds.
    """

    def __init__(self, password: str | None = None, timeout: int = 200) -> None:
        self._binary = find_nutcracker()
        self._folder = Path(tempfile.mkdtemp(prefix="model-cache-test-"))
        self.password = password
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        options = ["--requirepass", password] if password else []
        self.servers = [Server(*options), Server(*options)]
        lines = [
            "cache:",
            f"  listen: 127.0.0.1:{self.port}",
            "  redis: true",
            "  hash: fnv1a_64",
            "  distribution: ketama",
            f"  timeout: {timeout}",
            "  auto_eject_hosts: true",
            "  server_failure_limit: 1",
            "  server_retry_timeout: 500",
        ]
        lines += [f"  redis_auth: {password}"] if password else []
        lines += ["  servers:"]
        lines += [f"   - 127.0.0.1:{each.port}:1 s{each.port}" for each in self.servers]
        (self._folder / "nutcracker.yml").write_text("\n".join(lines) + "\n")
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [self._binary, "-c", str(self._folder / "nutcracker.yml")]
        command += ["-a", "127.0.0.1", "-s", str(free_port())]
        self.process = subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._listens, "nutcracker listens")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        self.kill()
        for server in self.servers:
            server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def running_twemproxy(password: str | None = None, timeout: int = 200) -> Iterator[Twemproxy]:
    proxy = Twemproxy(password, timeout)
    try:
        yield proxy
    finally:
        proxy.stop()
