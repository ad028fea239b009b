# docker build -t arc-ttt . && docker run --rm -v "$PWD/artifacts:/home/arc/artifacts" arc-ttt run 02 profile=tiny
# Built in no CI of ours, only linted. The default torch brings gigabytes of CUDA; --build-arg TORCH_INDEX=… takes the
# index of CPU builds that PyTorch's install page names.
FROM python:3.12-slim

ARG TORCH_INDEX=""
WORKDIR /src
COPY . .
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" pip install --no-cache-dir -c requirements/constraints.txt . \
    && useradd --create-home --uid 1000 arc \
    && install -d -o 1000 /home/arc/artifacts

USER 1000
WORKDIR /home/arc
ENTRYPOINT ["python", "-m", "arc_helpers"]
CMD ["--help"]
