"""gunicorn's settings: `gunicorn --config examples/insurance_service/gunicorn.conf.py`."""

import os
import time
from pathlib import Path
from typing import Any

wsgi_app = "examples.insurance_service.app:create_app()"
# uvicorn's own uvicorn.workers is deprecated in favour of this package.
worker_class = "uvicorn_worker.UvicornWorker"
bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# The model is loaded once, before the workers are forked, and they share its memory. Each worker
# opens its own connections to Redis and closes them in the app's lifespan, so no hook is needed.
preload_app = True

# Longer than a load balancer's idle timeout, so that it never sends into a closed connection.
keepalive = 75
graceful_timeout = 30
# On a disk, the workers' heartbeat files may block them.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# The socket of gunicornc is in the home folder, which a container may not have.
control_socket_disable = True

# Where the workers keep the counts for /metrics; it must exist before the model is loaded.
_metrics = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
if _metrics:
    Path(_metrics).mkdir(parents=True, exist_ok=True)
_loaded = time.time()


def on_starting(server: Any) -> None:
    """Reset the metrics, since the counts of former workers stay in the folder.

    This is not done when this file is loaded, since a reload (SIGHUP) and `--check-config` load it
    while workers count, nor next to an older gunicorn that this one replaces (SIGUSR2).
    """
    if not _metrics or server.master_pid:
        return
    for file in Path(_metrics).glob("*.db"):
        if file.stat().st_mtime < _loaded:  # newer files belong to the app, which is loaded by now
            file.unlink()


def child_exit(_server: Any, worker: Any) -> None:
    """Remove the gauges of a worker that has ended."""
    from model_cache.integrations.prometheus import forget_worker

    forget_worker(worker.pid)


# One format, with time and process, for requests, gunicorn and the cache's warnings.
accesslog = "-"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        name: {"level": "INFO", "handlers": ["console"], "propagate": False}
        for name in ("gunicorn.error", "gunicorn.access")
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stdout",
        }
    },
    "formatters": {
        "generic": {"format": "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"}
    },
}
