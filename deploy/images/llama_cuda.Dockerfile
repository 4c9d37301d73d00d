# A llama.cpp worker on NVIDIA cards: compute capabilities 8.0 to 9.0 (A100, RTX 30 and 40, H100). Never run yet.
FROM nvidia/cuda:12.8.1-devel-ubuntu24.04 AS build
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv python3-dev cmake ninja-build git \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/allsorts
COPY requirements requirements
ENV CMAKE_ARGS="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=80;86;89;90 -DGGML_NATIVE=off"
RUN python3 -m venv /opt/venv \
  && /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-binary llama-cpp-python -r requirements/llama.lock
COPY pyproject.toml README.md ./
COPY protos protos
COPY router router
COPY workers workers
COPY loadtest loadtest
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps .

FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 libgomp1 && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home --uid 10001 allsorts && mkdir /state && chown allsorts /state
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /home/allsorts
CMD ["allsorts", "join", "--help"]
