# The command `serve` as a small image that runs as nobody in particular:
#
#   docker build -t rngd-llm .
#   docker run --rm -p 8000:8000 -v rngd-models:/models rngd-llm serve Qwen/Qwen3-0.6B
#
# docs/container.md says more.

FROM denoland/deno:2.9.6 AS build
ENV DENO_DIR=/deno
WORKDIR /app
COPY deno.json deno.lock mod.ts serve.ts ./
COPY lib ./lib
COPY serve ./serve
# The parts of the standard library that deno.json finds beside it.
COPY tools/std ./tools/std
COPY tools/container ./tools/container
# All that is fetched is fetched here, and is what the lock says; the workers are not imported.
RUN deno cache --frozen serve.ts lib/device/pe/worker.ts lib/text/worker.ts tools/container/health.ts \
    && mkdir /models

FROM denoland/deno:distroless-2.9.6
ENV DENO_DIR=/deno \
    DENO_NO_UPDATE_CHECK=1 \
    HF_HOME=/models \
    HEALTH_PORT=8000
WORKDIR /app
COPY --from=build /app /app
COPY --from=build --chown=65532:65532 /deno /deno
COPY --from=build --chown=65532:65532 /models /models
# The user `nonroot`, by its number, so that a cluster can see that it is not root.
USER 65532:65532
VOLUME /models
EXPOSE 8000
# A first start downloads the model: until it is ready, failures do not count.
HEALTHCHECK --start-period=60m --interval=15s --timeout=5s --retries=3 \
    CMD ["deno", "run", "--no-prompt", "--cached-only", "--allow-net=127.0.0.1", "--allow-env=HEALTH_PORT", "/app/tools/container/health.ts"]
# Reads /models, and what is mounted elsewhere; writes only to /models; starts no programs.
ENTRYPOINT ["deno", "run", "--no-prompt", "--cached-only", "--frozen", "--allow-net", "--allow-read", "--allow-write=/models", "--allow-env=HF_TOKEN,HUGGING_FACE_HUB_TOKEN,HF_TOKEN_PATH,HF_HOME,HF_HUB_CACHE,HF_HUB_OFFLINE,TRANSFORMERS_OFFLINE,HF_ENDPOINT,VLLM_API_KEY,VLLM_SERVER_DEV_MODE,FURIOSA_SERVER_DEV_MODE,EXPECTED_AVERAGE_SEQ_LENGTH,OTEL_DENO,OTEL_SDK_DISABLED", "/app/serve.ts"]
CMD ["--help"]
