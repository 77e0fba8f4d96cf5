"""LangChain."""

import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

QUESTION = "Why is the sky blue?"
GREEDY = {"model": "served", "api_key": "EMPTY", "temperature": 0, "max_retries": 0}


@pytest.fixture
def chat(generate_url):
    return ChatOpenAI(base_url=f"{generate_url}/v1", max_tokens=4, **GREEDY)


def test_invoke(chat):
    message = chat.invoke(QUESTION)
    assert message.text
    assert message.usage_metadata["output_tokens"] == 4
    assert message.response_metadata["finish_reason"] == "length"


def test_stream(chat):
    chunks = list(chat.stream(QUESTION, stream_usage=True))
    assert "".join(chunk.text for chunk in chunks) == chat.invoke(QUESTION).text
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) == 4


def test_batch(chat):
    first, second = chat.batch([QUESTION, QUESTION])
    assert first.text == second.text


def test_completions(generate_url):
    model = OpenAI(base_url=f"{generate_url}/v1", max_tokens=4, **GREEDY)
    assert "".join(model.stream("The sky is")) == model.invoke("The sky is")


def test_embeddings(embed_url):
    # Without the last option LangChain counts tokens itself, with OpenAI's vocabulary.
    model = OpenAIEmbeddings(
        base_url=f"{embed_url}/v1",
        api_key="EMPTY",
        model="served",
        check_embedding_ctx_length=False,
    )
    first, second = model.embed_documents(["A cat sits.", "Shares fell."])
    assert len(first) == len(second) == 384
    assert model.embed_query("A cat sits.") == first


def test_errors(chat):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat.bind(temperature=9).invoke(QUESTION)
    with pytest.raises(openai.BadRequestError, match="maximum context length is 8192 tokens"):
        chat.invoke("word " * 9000)
