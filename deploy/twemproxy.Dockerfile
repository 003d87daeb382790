# syntax=docker/dockerfile:1
# Twemproxy, which has no image of its own; start.sh and nutcracker.yml are mounted:
#   docker build --file deploy/twemproxy.Dockerfile --tag twemproxy:0.5.0 deploy

FROM debian:12-slim
# Debian's patches count for more here than a fixed build of them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nutcracker \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
EXPOSE 22121
# It does not handle SIGTERM, which the first process of a container then never gets.
STOPSIGNAL SIGINT
CMD ["sh", "/etc/twemproxy/start.sh"]
