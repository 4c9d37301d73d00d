# A vLLM worker: vLLM's own image of the version that pyproject.toml pins, and the worker beside it. Never run yet.
FROM vllm/vllm-openai:v0.32.0
WORKDIR /opt/allsorts
COPY requirements/base.lock requirements/base.lock
COPY pyproject.toml README.md ./
COPY protos protos
COPY router router
COPY workers workers
COPY loadtest loadtest
# vLLM's own versions of what both need stay as they are
RUN pip install --no-cache-dir --upgrade-strategy only-if-needed . \
  && useradd --create-home --uid 10001 allsorts && mkdir /state && chown allsorts /state
ENV PYTHONUNBUFFERED=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
USER 10001:10001
WORKDIR /home/allsorts
ENTRYPOINT []
CMD ["allsorts", "join", "--help"]
