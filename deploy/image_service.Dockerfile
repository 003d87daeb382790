# syntax=docker/dockerfile:1
# The image service. From the root of a checkout:
#   docker build --file deploy/image_service.Dockerfile --tag image-service:0.1.0 .

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/venv
# One of these wheels contains the model.
COPY examples/image_service/requirements.txt ./
RUN /opt/venv/bin/pip install --requirement requirements.txt
COPY pyproject.toml README.md LICENSE THIRD_PARTY_NOTICES ./
COPY src src
RUN python -m pip wheel --no-deps --wheel-dir wheels . && /opt/venv/bin/pip install wheels/*.whl

WORKDIR /app
COPY examples/__init__.py examples/
COPY examples/image_service examples/image_service

FROM python:3.13-slim AS service
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 BIND=0.0.0.0:5000
USER 10001:10001
EXPOSE 5000
# Without Redis the status is "degraded", which passes the check.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python", "-c", "import os, urllib.request as http; http.urlopen('http://127.0.0.1:' + os.environ['BIND'].rpartition(':')[2] + '/health', timeout=4)"]
CMD ["gunicorn", "--config", "examples/image_service/gunicorn.conf.py"]
