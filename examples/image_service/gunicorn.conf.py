"""gunicorn's settings: `gunicorn --config examples/image_service/gunicorn.conf.py`."""

import os
from pathlib import Path

wsgi_app = "examples.image_service.app:create_app()"
# uvicorn's own uvicorn.workers is deprecated in favour of this package.
worker_class = "uvicorn_worker.UvicornWorker"
bind = os.environ.get("BIND", "127.0.0.1:5000")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# No preload: onnxruntime sessions do not survive a fork, so each worker loads the model and closes
# its cache in the app's lifespan. Each reads one image at a time, on one core.
preload_app = False

# Longer than a load balancer's idle timeout, so that it never sends into a closed connection.
keepalive = 75
graceful_timeout = 30
# On a disk, the workers' heartbeat files may block them.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# The socket of gunicornc is in the home folder, which a container may not have.
control_socket_disable = True

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
