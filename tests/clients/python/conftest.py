"""Where the servers are: tests/clients/with_servers.ts starts them and says it."""

import os

import pytest

# litellm has the table of prices in its package; it must not ask the network for a newer one.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(scope="session")
def generate_url() -> str:
    """A generative model, without a path."""
    return os.environ["RNGD_GENERATE_URL"]


@pytest.fixture(scope="session")
def embed_url() -> str:
    """An embedding model."""
    return os.environ["RNGD_EMBED_URL"]


@pytest.fixture(scope="session")
def rerank_url() -> str:
    """A reranker."""
    return os.environ["RNGD_RERANK_URL"]
