# syntax=docker/dockerfile:1
# The first stage builds an environment from the lock; the second copies it, without the build tools.
# Both bases are Python 3.11.16, as Docker Hub had it on 2026-09-21 for all architectures. Move the digest to a newer one
# for every release of ours, and when Debian mends a package in it.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS build

WORKDIR /src
RUN pip install --no-cache-dir uv==0.9.11
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY agent agent
COPY providers providers
# agent/share has links to files in these.
COPY config config
COPY systemd systemd
# The lock also has the packages of the tests, so it only constrains versions and hashes here.
RUN uv venv --no-cache /opt/edge-backup \
    && uv pip install --no-cache --compile-bytecode --python /opt/edge-backup/bin/python \
       --constraint requirements.lock --build-constraint requirements.lock '.[aws,azure,encryption]'

FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

LABEL org.opencontainers.image.title="edge-backup" \
      org.opencontainers.image.licenses="Apache-2.0"
# Process 1 of a container has to reap processes that the commands around a job leave behind; the agent does not.
# Schedules by the clock have time zones: tzdata. Debian keeps only one version of both, so there is none to pin.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends tini tzdata && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/edge-backup /opt/edge-backup
COPY config/config.json /etc/edge-backup/config.json
RUN groupadd --system --gid 10001 edge-backup \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/edge-backup --no-create-home edge-backup \
    && install -d -o edge-backup -g edge-backup -m 0700 \
       /var/lib/edge-backup /var/lib/edge-backup/data /var/lib/edge-backup/storage /var/lib/edge-backup/archives
USER 10001:10001
# The agent writes only below the volume, temporary files too, so the root file system may be read-only.
WORKDIR /var/lib/edge-backup
VOLUME /var/lib/edge-backup
# Logs go to stderr as JSON lines, where the container runtime collects them.
ENV PATH="/opt/edge-backup/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONUTF8=1 EDGE_BACKUP_LOG_FILE=""
# Healthy means that the agent answers. An absent broker is no reason to start it again.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s \
    CMD ["edge-backup", "status", "--config", "/etc/edge-backup/config.json"]
ENTRYPOINT ["tini", "--", "edge-backup"]
CMD ["run", "--config", "/etc/edge-backup/config.json"]
