# Collector, exporter and controller. Not for training environments: these install the base package only.
FROM python:3.11.14-slim-bookworm AS build
# The default torch wheel brings gigabytes of CUDA; give another index for an image with GPU support.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/infoplane
WORKDIR /source
# torch first, and alone: a change of the sources must not fetch it again.
RUN /opt/infoplane/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.2"
COPY . .
RUN /opt/infoplane/bin/pip install --no-cache-dir ".[collector]"

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/infoplane /opt/infoplane
ENV PATH=/opt/infoplane/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /tmp
# A number: Kubernetes can only check runAsNonRoot against a number.
USER 10001:10001
EXPOSE 9464 9465
ENTRYPOINT ["infoplane"]
CMD ["--help"]
