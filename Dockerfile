# A worker of a town: git, tmux and the agents' sessions live in it. Agents themselves are added by an image on top.
FROM python:3.11.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap ca-certificates git git-lfs openssh-client procps tmux \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 gastown \
    && install -d -o gastown -g gastown -m 0700 /town

COPY requirements.lock /src/
RUN pip install --no-cache-dir --require-hashes -r /src/requirements.lock
COPY . /src
RUN pip install --no-cache-dir --no-deps --no-build-isolation /src && rm -rf /src

USER gastown
WORKDIR /town
ENV GT_TOWN=/town PYTHONUNBUFFERED=1
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-P", "-m", "services.supervisor.health", "--town", "/town", "worker"]
STOPSIGNAL SIGTERM
CMD ["gt", "worker"]
