# Stages: one compiles; the last has libev and a virtual environment and nothing to build with.
#
#   docker build -t svc-edge --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# docs/DEPLOY.md has how to run it, and what to give a build behind a proxy or with an index of its own.

# Any Debian with CPython 3.10 to 3.13 as python3. The official images build it with profile-guided optimisation and LTO.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-bookworm

# What is to be installed, by itself: a change of anything else in setup.cfg fetches nothing again.
FROM ${BASE_IMAGE} AS requirements
COPY setup.cfg /
RUN python3 -c 'import configparser as c; p = c.ConfigParser(); p.read("/setup.cfg"); print(p["options"]["install_requires"])' \
    >/requirements.txt

FROM ${BASE_IMAGE} AS build
# A base with the distribution's Python needs python3-dev and python3-venv too.
ARG BUILD_PACKAGES="gcc libc6-dev libev-dev"
# Not pinned: Debian's mirrors keep the newest version of a package only.
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
 && apt-get install -y --no-install-recommends ${BUILD_PACKAGES} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
WORKDIR /src
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/svc-edge
# Dependencies have a layer of their own: a change of the code does not fetch them again.
COPY --from=requirements /requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf \
    --mount=type=secret,id=ca_bundle \
    PIP_CONFIG_FILE=/run/secrets/pip_conf PIP_USE_PEP517=1 \
    /opt/build/bin/pip --python /opt/svc-edge/bin/python3 install -r requirements.txt
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf \
    --mount=type=secret,id=ca_bundle \
    PIP_CONFIG_FILE=/run/secrets/pip_conf \
    /opt/build/bin/pip --python /opt/svc-edge/bin/python3 install --no-deps . \
 && find /opt/svc-edge -type d -name tests -prune -exec rm -rf {} + \
 && find /opt/svc-edge -name '*.so' -not -path '*/numpy*' -exec strip --strip-debug {} + \
 && rm -rf edge_server \
 && /opt/svc-edge/bin/python3 -c 'import edge_server.guard._guard'

FROM ${BASE_IMAGE}
# The base's pip goes too: nothing is installed in a running container.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libev4 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && find / -xdev -type d -path '*/python3*' \( -name ensurepip -o -name pip -o -name 'pip-*.dist-info' \) -prune -exec rm -rf {} + \
 && rm -f /usr/local/bin/pip* \
 && groupadd --gid 10001 svc-edge \
 && useradd --no-log-init --uid 10001 --gid svc-edge --no-create-home --home-dir / --shell /usr/sbin/nologin svc-edge
COPY --from=build /opt/svc-edge /opt/svc-edge
ENV PATH=/opt/svc-edge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SVC_EDGE_BIND_ADDR=0.0.0.0:8080 \
    SVC_EDGE_METRICS_ADDR=0.0.0.0:9909
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="svc-edge" \
      org.opencontainers.image.description="Edge asset server: static and ranged bytes from packs, one pinned worker per core" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
EXPOSE 8080 9909
STOPSIGNAL SIGTERM
# Whether it lives, not whether it is ready: what drains or sheds must not be replaced for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["svc-edge", "status", "--alive"]
ENTRYPOINT ["svc-edge"]
