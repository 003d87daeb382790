# syntax=docker/dockerfile:1
# Twemproxy, which has no official image. Mount start.sh and nutcracker.yml.
#   docker build --file deploy/twemproxy.Dockerfile --tag twemproxy:0.5.0 deploy

FROM debian:12-slim
# Prefer Debian's current patches to a pinned build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nutcracker \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
EXPOSE 22121
# Twemproxy does not handle SIGTERM, so PID 1 in a container would ignore it.
STOPSIGNAL SIGINT
CMD ["sh", "/etc/twemproxy/start.sh"]
