# The service on a CPU: docs/serving.md says how to run it.
FROM python:3.12-slim AS install
RUN python -m venv /opt/rg
ENV PATH=/opt/rg/bin:$PATH
# PyTorch's own index has wheels without CUDA, a tenth of the size.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY pyproject.toml README.md LICENSE /source/
COPY retrieval_grounding /source/retrieval_grounding
RUN pip install --no-cache-dir '/source[cpu]'

FROM python:3.12-slim
# Libraries that OpenCV, which ultralytics imports, expects of the system.
RUN apt-get update && apt-get install --no-install-recommends --yes libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 rg
COPY --from=install /opt/rg /opt/rg
ENV PATH=/opt/rg/bin:$PATH PYTHONUNBUFFERED=1
USER rg
# Indexes belong below /indexes, mounted read-only.
VOLUME /indexes
EXPOSE 8770
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8770/api/v1/ready')"]
# Others can reach the container, so it asks for RETRIEVAL_GROUNDING_TOKEN.
ENTRYPOINT ["retrieval-grounding", "serve", "--host", "0.0.0.0"]
CMD ["/indexes/default"]
