# syntax=docker/dockerfile:1
# Two stages: one with pip and make builds the environment and the archive, the other only runs them.
# EXTRAS: empty for a CPU, gpu for CUDA.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG EXTRAS=
# Only the CPU build of torch is worth its size without a GPU.
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/sum3dcam
COPY . .
RUN make setup EXTRAS=${EXTRAS} PYTHON=python3 \
 && make model_store/resnext-mini.mar build/pod.properties EXTRAS=${EXTRAS} PYTHON=python3

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --create-home sum3dcam
COPY --from=build --chown=root:root /opt/sum3dcam /opt/sum3dcam
WORKDIR /opt/sum3dcam
ENV PATH=/opt/sum3dcam/.venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive
USER 10001
EXPOSE 8080 7070 8082 8083 8084
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-m", "sum3dcam.serving.launch", "status", "--run-dir", "/tmp/serve"]
CMD ["python", "-m", "sum3dcam.serving.launch", "run", "--config", "build/pod.properties", "--run-dir", "/tmp/serve"]
