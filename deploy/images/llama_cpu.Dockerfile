# A llama.cpp worker on processors, built for the machine that builds the image. Build from the repository's root.
FROM python:3.11-bookworm AS build
WORKDIR /opt/allsorts
COPY requirements requirements
COPY deploy/build deploy/build
RUN python -m venv /opt/venv \
  && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements/base.lock \
  && bash deploy/build/llama.sh /opt/venv/bin/python
COPY pyproject.toml README.md ./
COPY protos protos
COPY router router
COPY workers workers
COPY loadtest loadtest
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home --uid 10001 allsorts && mkdir /state && chown allsorts /state
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /home/allsorts
CMD ["allsorts", "join", "--help"]
