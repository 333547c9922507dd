# SagaMQ as an image: one binary, a user of its own, its data in a volume.
#
#   docker build -t sagamq .                       builds in a container, from the sources alone (RocksDB takes its time)
#   docker run -d --name sagamq --restart unless-stopped --stop-timeout 40 --ulimit nofile=65536 -p 127.0.0.1:7070:7070 -v sagamq:/var/lib/sagamq sagamq
#   docker exec sagamq cat admin-key               the administrator's key, which the first start made
#
# `--target runtime-prebuilt` takes a binary `sagamq` that lies in the build context instead (scripts/test-containers does).
# The order of the stages matters to builders that run every stage up to the target: what needs no compiler comes first.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS runtime-base
# A fixed number, so that an orchestrator can check that it is not root, and a volume keeps its owner over versions.
RUN echo 'sagamq:x:10001:10001:SagaMQ:/var/lib/sagamq:/bin/false' >> /etc/passwd \
    && echo 'sagamq:x:10001:' >> /etc/group \
    && mkdir -p /var/lib/sagamq && chown 10001:10001 /var/lib/sagamq && chmod 0750 /var/lib/sagamq
ENV SAGAMQ_LISTEN=0.0.0.0:7070 SAGAMQ_DATA_DIR=/var/lib/sagamq SAGAMQ_AUTHENTICATION=keys
USER 10001:10001
WORKDIR /var/lib/sagamq
VOLUME /var/lib/sagamq
EXPOSE 7070
# SIGTERM drains: running requests are answered, then the data is closed.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["sagamq", "health"]
ENTRYPOINT ["sagamq"]
CMD ["serve"]

FROM runtime-base AS runtime-prebuilt
COPY --chown=0:0 sagamq /usr/local/bin/sagamq

# What decides about the dependencies, and nothing else: the manifests with empty sources behind them. An edit of ours leaves it as it
# was, so that the layer below with RocksDB in it is taken from the builder's cache.
FROM ${BASE_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name rust-toolchain.toml ! -path './.cargo/*' \
        ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*.rs' -delete \
    && find . -name '*.rs' ! -name lib.rs -exec sh -c 'for file; do echo "fn main() { }" > "$file"; done' _ {} + \
    && find . -name lib.rs -exec sh -c 'for file; do : > "$file"; done' _ {} + \
    && find . -type d -empty -delete

FROM ${RUST_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY --from=manifests /src .
RUN cargo build --profile dist --workspace --locked --bin sagamq
COPY . .
# The sources are as old as they were outside, older than what was just built of the empty ones.
RUN find . -name '*.rs' -exec touch {} + \
    && cargo build --profile dist --workspace --locked --bin sagamq && install -m 0755 target/dist/sagamq /usr/local/bin/sagamq

FROM runtime-base AS runtime
# Participants over https are checked against these; the base has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=0:0 /usr/local/bin/sagamq /usr/local/bin/sagamq
