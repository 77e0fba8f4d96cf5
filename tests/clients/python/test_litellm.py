"""LiteLLM, whose name for servers of this kind is `hosted_vllm`."""

import litellm
import pytest

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
MODEL = "hosted_vllm/served"


@pytest.fixture
def greedy(generate_url):
    return {"api_base": f"{generate_url}/v1", "temperature": 0, "max_tokens": 4, "num_retries": 0}


def test_chat(greedy):
    answer = litellm.completion(model=MODEL, messages=MESSAGES, **greedy)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


def test_stream(greedy):
    whole = litellm.completion(model=MODEL, messages=MESSAGES, **greedy)
    chunks = list(litellm.completion(model=MODEL, messages=MESSAGES, stream=True, **greedy))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"


def test_completions(greedy):
    answer = litellm.text_completion(model=MODEL, prompt="The sky is", **greedy)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 4


def test_embeddings(embed_url):
    answer = litellm.embedding(
        model=MODEL, input=["A cat sits.", "Shares fell."], api_base=f"{embed_url}/v1"
    )
    assert [len(item["embedding"]) for item in answer.data] == [384, 384]


def test_rerank(rerank_url):
    documents = ["a", "the cat", "one two"]
    answer = litellm.rerank(
        model=MODEL, query="the cat", documents=documents, top_n=2, api_base=rerank_url
    )
    scores = [result["relevance_score"] for result in answer.results]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)


def test_models(generate_url):
    models = litellm.get_valid_models(
        check_provider_endpoint=True,
        custom_llm_provider="hosted_vllm",
        api_base=f"{generate_url}/v1",
    )
    assert models == ["SmolLM2-135M-Instruct"]


def test_errors(greedy):
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(model=MODEL, messages=MESSAGES, **{**greedy, "temperature": 9})
    too_long = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(model=MODEL, messages=too_long, **greedy)
