# The official images build CPython with profile-guided optimisation and LTO.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev libev-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/svc-edge
WORKDIR /src
COPY . .
RUN PIP_USE_PEP517=1 /opt/svc-edge/bin/pip install --no-cache-dir .

FROM python:${PYTHON}-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends libev4 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin svc-edge
COPY --from=build /opt/svc-edge /opt/svc-edge
ENV PATH=/opt/svc-edge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SVC_EDGE_BIND_ADDR=0.0.0.0:8080 \
    SVC_EDGE_METRICS_ADDR=0.0.0.0:9909
USER 10001
EXPOSE 8080 9909
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9909/healthz', timeout=2)"]
ENTRYPOINT ["svc-edge"]
