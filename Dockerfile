# Nameplate beside a torch that has CUDA: docs/container.md has how to build and run it.
ARG BASE=pytorch/pytorch:2.11.0-cuda12.8-cudnn9-runtime
FROM ${BASE}

# Where the base's Python is the system's own, pip installs nothing without the first of these.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /opt/nameplate
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
COPY kernels ./kernels
COPY bench ./bench

# The base's torch stays, so its pin is left out; without CUDA in it the build ends here.
RUN grep -v '^torch==' constraints.txt > without-torch.txt \
    && python3 -m pip install -c without-torch.txt '.[report,export]' \
    && python3 -c 'import torch; assert torch.version.cuda, torch.__version__' \
    && bench --help > /dev/null \
    && useradd --create-home nameplate \
    && install -d -o nameplate /work

# Runs are written into the working folder: mount one of your own there.
USER nameplate
WORKDIR /work
ENTRYPOINT ["bench"]
CMD ["run"]
