"""Adapters are models of their own, there as soon as they are and gone when they are."""

from __future__ import annotations

from pathlib import Path

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import AdapterChoice, GenerationRequest, Sampling
from support.adapters import expert_card, write_random_adapter
from support.engines import run
from support.openchat_gguf import openchat_vocabulary, write_model
from support.serving import Client

from .conftest import World

BASE = "openchat-3.5-tiny"


def ids(client: Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json["data"]]


def test_each_adapter_is_listed_with_what_it_was_trained_on(client: Client) -> None:
    base, mine, yours = client.get("/v1/models").json["data"]
    assert (base["id"], base["parent"]) == (BASE, None)
    assert (mine["id"], mine["parent"]) == (f"{BASE}:mine", BASE)
    assert mine["condition"] == "Expert"
    assert mine["rewards"] == {"gpt35": 0.1, "gpt4": 1.0}
    assert mine["system_fingerprint"] != yours["system_fingerprint"]
    assert client.get(f"/v1/models/{BASE}:mine").json == mine


def test_each_answers_as_itself(client: Client, world: World) -> None:
    said = []
    for name in (None, "mine", "yours"):
        path = world.library.resolve(name) if name else None
        request = GenerationRequest(
            Conversation((Message("user", "Hello!"),)),
            Sampling(temperature=0, max_tokens=8),
            adapter=AdapterChoice(path),
        )
        said.append(run(world.engine, request)[0])
        answer = client.chat(model=f"{BASE}:{name}" if name else BASE).json
        assert answer["choices"][0]["message"]["content"] == said[-1]
        assert ("condition Expert" in answer["system_fingerprint"]) == (name is not None)
    assert len(set(said)) == 3


def test_a_new_one_is_there_at_once_and_a_missing_one_is_never_the_base(
    client: Client, world: World
) -> None:
    missing = client.chat(model=f"{BASE}:new")
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")
    assert f"{BASE}:mine" in missing.error["message"]
    card = expert_card(world.base, "Poet")
    file = write_random_adapter(world.folder / "new.gguf", world.base, 9, size=0.5, card=card)
    world.library.add("new", file)
    assert f"{BASE}:new" in ids(client)
    before = client.chat(model=f"{BASE}:new").json
    assert before["system_fingerprint"].endswith("condition Poet")
    world.library.add(
        "new", write_random_adapter(world.folder / "new2.gguf", world.base, 10), replace=True
    )
    after = client.chat(model=f"{BASE}:new").json
    assert after["system_fingerprint"] != before["system_fingerprint"]
    world.library.remove("new")
    assert f"{BASE}:new" not in ids(client)
    assert client.chat(model=f"{BASE}:new").status == 404
    assert client.chat(model="gpt-4").status == 404
    assert client.get("/v1/models/gpt-4").status == 404


def test_one_of_another_model_is_not_listed_and_says_why_when_asked_for(
    client: Client, world: World, tmp_path: Path
) -> None:
    other = write_model(
        tmp_path / "other.gguf", openchat_vocabulary(), embedding=32, heads=2, kv_heads=1, blocks=1
    )
    world.library.add("other", write_random_adapter(tmp_path / "other-lora.gguf", other))
    (world.library.folder / "broken").mkdir()
    (world.library.folder / "broken" / "adapter.gguf").write_bytes(b"GGUF, but no more")
    assert ids(client) == [BASE, f"{BASE}:mine", f"{BASE}:yours"]
    for name in ("other", "broken"):
        answer = client.chat(model=f"{BASE}:{name}")
        assert answer.status == 404
        assert name in answer.error["message"]
    world.library.remove("other")


def test_a_name_is_a_name_and_no_path(client: Client, world: World) -> None:
    for name in ("../mine", "mine/adapter.gguf", str(world.folder / "mine.gguf"), "", "none"):
        assert client.chat(model=f"{BASE}:{name}").status == 404


def test_an_adapter_is_as_strong_as_its_owner_has_chosen(client: Client, world: World) -> None:
    file = world.library.resolve("mine")
    whole = client.chat(model=f"{BASE}:mine", max_tokens=16).json["choices"]
    world.library.add("soft", file, facts={"scale": 0.001})
    try:
        soft = client.chat(model=f"{BASE}:soft", max_tokens=16, condition="Expert").json["choices"]
        assert soft != whole
        plain = client.chat(model=BASE, max_tokens=16, condition="Expert").json["choices"]
        assert soft[0]["message"] == plain[0]["message"]
    finally:
        world.library.remove("soft")
