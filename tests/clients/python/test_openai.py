"""OpenAI's own Python client."""

import asyncio
import time

import httpx
import openai
import pytest

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
GREEDY = {"model": "served", "temperature": 0, "max_tokens": 4}


@pytest.fixture
def client(generate_url):
    return openai.OpenAI(base_url=f"{generate_url}/v1", api_key="EMPTY", max_retries=0)


def test_chat(client):
    answer = client.chat.completions.create(messages=MESSAGES, **GREEDY)
    [choice] = answer.choices
    assert choice.finish_reason == "length"
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert answer.usage.completion_tokens == 4


def test_a_streamed_chat_is_the_whole_chat_in_pieces(client):
    whole = client.chat.completions.create(messages=MESSAGES, **GREEDY)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(messages=MESSAGES, **GREEDY, **options))
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert len(pieces) > 2
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_the_stream_helper_puts_the_same_message_together(client):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    body = {**GREEDY, "messages": messages, "max_tokens": 40}  # it refuses what was cut
    whole = client.chat.completions.create(**body)
    with client.chat.completions.stream(**body) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


def test_the_asynchronous_client_asks_many_at_once(generate_url):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{generate_url}/v1", api_key="EMPTY") as client:
            asks = [client.chat.completions.create(messages=MESSAGES, **GREEDY) for _ in range(8)]
            return await asyncio.gather(*asks)

    answers = asyncio.run(ask_all())
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert len({answer.id for answer in answers}) == 8


def test_completions(client):
    batch = client.completions.create(prompt=["The sky is", "Water is"], **GREEDY)
    assert [choice.index for choice in batch.choices] == [0, 1]
    chunks = client.completions.create(prompt="The sky is", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in chunks) == batch.choices[0].text


def test_embeddings_are_the_same_in_base64_and_as_numbers(embed_url):
    client = openai.OpenAI(base_url=f"{embed_url}/v1", api_key="EMPTY", max_retries=0)
    texts = ["A cat sits.", "Shares fell."]
    plain = client.embeddings.create(model="served", input=texts)
    floats = client.embeddings.create(model="served", input=texts, encoding_format="float")
    assert [len(item.embedding) for item in plain.data] == [384, 384]
    assert [item.embedding for item in plain.data] == [item.embedding for item in floats.data]


def test_models(client):
    [model] = client.models.list()
    assert client.models.retrieve(model.id).id == model.id
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("none")


def test_refusals_become_the_clients_error_classes(client, embed_url):
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        client.chat.completions.create(messages=MESSAGES, **{**GREEDY, "temperature": 9})
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="maximum context length is 8192 tokens"):
        client.completions.create(prompt="word " * 9000, **GREEDY)
    wrong_model = openai.OpenAI(base_url=f"{embed_url}/v1", api_key="EMPTY", max_retries=0)
    with pytest.raises(openai.BadRequestError) as caught:
        wrong_model.chat.completions.create(messages=MESSAGES, **GREEDY)
    assert caught.value.type == "model_not_supported"


def test_a_stream_that_is_closed_ends_its_generation(client, generate_url):
    def running():
        metrics = httpx.get(f"{generate_url}/metrics").text.splitlines()
        [line] = [m for m in metrics if m.startswith("furiosa_llm_num_requests_running{")]
        return float(line.split()[-1])

    long = {**GREEDY, "max_tokens": 4000, "extra_body": {"ignore_eos": True}}
    stream = client.chat.completions.create(messages=MESSAGES, stream=True, **long)
    next(stream)
    assert running() == 1
    stream.close()
    deadline = time.monotonic() + 5
    while running() > 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running() == 0
