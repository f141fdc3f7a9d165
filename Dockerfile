# syntax=docker/dockerfile:1
# deepscan without torch: the first stage has it and converts the networks, the final one runs them with OpenVINO.

FROM python:3.12-slim AS convert
ENV UV_TORCH_BACKEND=cpu UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir 'uv>=0.9,<1'
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY deepscan ./deepscan
COPY scripts/slim_requirements.py ./scripts/
COPY data/samples ./data/samples

# What predict and serve import, compiled, in the folder that the final stage takes; without what is never run there: devices
# other than the processor, and a library's own tests.
RUN python scripts/slim_requirements.py >/slim.txt \
 && uv venv /opt/deepscan \
 && uv pip install --python /opt/deepscan -r /slim.txt \
 && uv pip install --python /opt/deepscan --no-deps 'facenet-pytorch>=2.5.3,<2.6' . \
 && cd /opt/deepscan/lib/python3.*/site-packages \
 && rm -rf openvino/libs/libopenvino_intel_[gn]pu_plugin.so openvino/libs/cache.json openvino/include pandas/tests

# The networks as OpenVINO reads them, into a cache that the final stage takes; the versions must be the same.
RUN uv venv /opt/torch \
 && uv pip install --python /opt/torch . "openvino==$(uv pip show --python /opt/deepscan openvino | sed -n 's/^Version: //p')" \
 && export DEEPSCAN_CACHE=/opt/deepscan/cache \
 && /opt/torch/bin/deepscan predict --runtime openvino data/samples \
 && /opt/torch/bin/deepscan predict --runtime openvino --no-tta data/samples \
 && chmod -R a+rX /opt/deepscan

FROM python:3.12-slim AS final
ENV PATH=/opt/deepscan/bin:$PATH \
    DEEPSCAN_CACHE=/opt/deepscan/cache \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --no-create-home deepscan
COPY --from=convert /opt/deepscan /opt/deepscan
USER 10001
WORKDIR /data
EXPOSE 7860
ENTRYPOINT ["deepscan"]
CMD ["--help"]
