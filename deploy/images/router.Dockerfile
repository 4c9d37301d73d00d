# The router: Ray Serve, HAProxy (it comes in Ray's wheel), no engine. Build from the repository's root.
FROM python:3.11-slim-bookworm
ENV PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
WORKDIR /opt/allsorts
COPY requirements/router.lock requirements/router.lock
RUN pip install --no-cache-dir --require-hashes -r requirements/router.lock
COPY pyproject.toml README.md ./
COPY protos protos
COPY router router
COPY workers workers
COPY loadtest loadtest
RUN pip install --no-cache-dir --no-deps . && useradd --create-home --uid 10001 allsorts
USER 10001:10001
WORKDIR /home/allsorts
EXPOSE 8000 8080 8098 8099 8100
CMD ["allsorts", "serve"]
