# The gateway alone, in front of engines that run elsewhere: no torch, no engine, no compiler, no root.
#
#   docker build -f docker/gateway.Dockerfile -t alphatier .
#   docker run --read-only --tmpfs /tmp -p 8000:8000 -v /srv/families/tiny:/family:ro alphatier \
#     serve --host 0.0.0.0 --family /family --engine http://gpu-1:8001
#
# BASE is any image of Debian's kind with Python 3.11 to 3.13 and its venv module.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
COPY docker/locks/gateway.txt /src/docker/locks/gateway.txt
RUN python3 -m venv /opt/alphatier \
 && /opt/alphatier/bin/python -m pip install --no-cache-dir --no-deps -r /src/docker/locks/gateway.txt
COPY pyproject.toml README.md LICENSE /src/
COPY models/alphatier_models /src/models/alphatier_models
COPY server/alphatier_server /src/server/alphatier_server
COPY training/alphatier_training /src/training/alphatier_training
# What builds the package is in the lock; neither it nor pip is needed in the image.
RUN /opt/alphatier/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation /src \
 && /opt/alphatier/bin/python -m pip uninstall --quiet --yes hatchling editables pathspec pluggy trove-classifiers \
      pip setuptools

FROM ${BASE}
COPY --from=build /opt/alphatier /opt/alphatier
ENV PATH=/opt/alphatier/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
ENTRYPOINT ["alphatier"]
CMD ["serve", "--help"]
