# The load generator and the analysis, without torch and vLLM: load, merge, report, compare, plan.
# `make image` builds it. docs/cluster.md says how large it is, and what it leaves out.
FROM python:3.13-slim-trixie AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/tunedyno
COPY requirements/cpu.lock /source/requirements/cpu.lock
COPY pyproject.toml README.md LICENSE build_compiled.py /source/
COPY foundation /source/foundation
COPY finetune /source/finetune
COPY quantize /source/quantize
COPY serve /source/serve
COPY loadgen /source/loadgen
COPY results /source/results
COPY dyno /source/dyno
COPY examples /source/examples
# gcc builds loadgen/_compiled.c, and stays behind.
RUN pip --python /opt/tunedyno install --no-cache-dir --no-compile \
    --constraint /source/requirements/cpu.lock /source
# This takes away half of the size: symbols, tests, numba (plans are simulated slowly without it),
# and what nothing here uses of pyarrow. Libraries that a wheel brought in *.libs stay as they are.
RUN cd /opt/tunedyno/lib/python3.13/site-packages \
 && rm -r numba numba-* llvmlite llvmlite-* pyarrow/include pyarrow/*flight* pyarrow/*s3* \
 && find . -name tests -type d -prune -exec rm -r {} + \
 && find . -name "*.so*" -not -path "./*.libs/*" -exec strip --strip-unneeded {} +

FROM python:3.13-slim-trixie
COPY --from=build /opt/tunedyno /opt/tunedyno
RUN useradd --uid 10001 --create-home tunedyno
ENV PATH=/opt/tunedyno/bin:$PATH
USER 10001
WORKDIR /home/tunedyno
ENTRYPOINT ["dyno"]
CMD ["--help"]
