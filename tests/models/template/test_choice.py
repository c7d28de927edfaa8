"""Which template a model gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.template import Template, choose_template, template_file
from openchat_local.models.template.family_template import FamilyTemplate
from openchat_local.models.template.vocabulary import Vocabulary

FileWith = Callable[[str, str | None], GGUFFile]
VocabularyOf = Callable[[str], Vocabulary]


@pytest.mark.parametrize(
    ("family", "condition"),
    [
        ("openchat-2", "GPT4"),
        ("openchat-3.1", "GPT4"),
        ("openchat-3.2", "GPT4"),
        ("openchat-3.5", "GPT4 Correct"),
        ("openchat-3.6", "GPT4 Correct"),
        ("openchat-3.5-gemma", "GPT4 Correct"),
        ("chatml", ""),
        ("llama-3", ""),
        ("gemma", ""),
        ("zephyr", ""),
    ],
)
def test_a_published_template_is_recognised_by_what_it_writes(
    family: str, condition: str, template_of: Callable[..., Template]
) -> None:
    template = template_of(family)
    assert (template.name, template.default_condition, template.note) == (family, condition, None)
    assert isinstance(template, FamilyTemplate)
    assert template.default_system is None


def test_gemma_2_which_refuses_system_turns_is_gemma_too(
    file_with: FileWith, vocabulary_of: VocabularyOf, published: Mapping[str, str]
) -> None:
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}" + published["gemma"]
    )
    template = choose_template(file_with("gemma", refusing), vocabulary_of("gemma"))
    assert template.name == "gemma"


def test_a_template_that_adds_anything_is_not_the_family(
    file_with: FileWith, vocabulary_of: VocabularyOf, published: Mapping[str, str]
) -> None:
    for altered in (
        published["chatml"].replace("<|im_end|>", " <|im_end|>"),
        published["chatml"] + "{% if messages | length > 2 %}Be good.{% endif %}",
        published["chatml"].replace("message['role']", "message['role'] | upper", 1),
    ):
        template = choose_template(file_with("starter", altered), vocabulary_of("starter"))
        assert template.name == "jinja"
        assert template.note is not None
        assert "conditions are not written" in template.note


def named(file: GGUFFile, **metadata: Any) -> GGUFFile:
    keys = {key.replace("__", "."): value for key, value in metadata.items()}
    return replace(file, metadata={**file.metadata, **keys}, path=file.path.with_name("model.gguf"))


@pytest.mark.parametrize(
    ("name", "kv_heads", "context", "family"),
    [
        ("openchat_openchat_3.5", 8, 8192, "openchat-3.5"),
        ("OpenChat 3.5 0106", 32, 4096, "openchat-3.5"),
        ("Starling-LM-7B-alpha", 8, 8192, "openchat-3.5"),
        ("openchat_openchat_v3.2_super", 40, 4096, "openchat-3.2"),
        ("openchat_v3.2", 8, 8192, "openchat-3.2"),
        ("mine", 8, 4096, "openchat-3.5"),
        ("mine", 32, 8192, "openchat-3.5"),
        ("mine", 32, 4096, "openchat-3.2"),
        ("openchat_v3.1", 40, 4096, "openchat-3.1"),
        ("OpenChat V2 W", 40, 2048, "openchat-2"),
        ("openchat_openchat_v2_openorca_preview", 40, 2048, "openchat-2"),
        ("openchat-2-13b", 40, 2048, "openchat-2"),
        ("openchat_v1", 40, 2048, "openchat-1"),
        ("openchat_8192", 40, 8192, "openchat-1"),
        ("OpenChat 13B", 40, 4096, "openchat-3.2"),
    ],
)
def test_without_a_template_openchat_is_told_by_name_then_by_shape(
    name: str,
    kv_heads: int,
    context: int,
    family: str,
    file_with: FileWith,
    vocabulary_of: VocabularyOf,
) -> None:
    file = named(
        file_with("openchat", None),
        general__name=name,
        llama__attention__head_count=max(kv_heads, 32),
        llama__attention__head_count_kv=kv_heads,
        llama__context_length=context,
    )
    template = choose_template(file, vocabulary_of("openchat"))
    assert template.name == family
    guessed = family == "openchat-3.2" and "3.2" not in name
    doubt = "taken for 3.2" in (template.note or "")
    assert doubt == guessed


@pytest.mark.parametrize(
    ("name", "context"), [("mine", 2048), ("opencoderplus", 8192), ("openchat_v4", 8192)]
)
def test_an_openchat_that_is_none_of_those_known_is_refused(
    name: str, context: int, file_with: FileWith, vocabulary_of: VocabularyOf
) -> None:
    file = named(
        file_with("openchat", None),
        general__name=name,
        llama__attention__head_count=32,
        llama__attention__head_count_kv=32,
        llama__context_length=context,
    )
    with pytest.raises(TemplateError, match=r"which OpenChat it is.*openchat-1, openchat-2"):
        choose_template(file, vocabulary_of("openchat"))
    assert choose_template(file, vocabulary_of("openchat"), "openchat-2").name == "openchat-2"


@pytest.mark.parametrize(
    ("vocabulary", "name", "family"),
    [
        ("starter", "SmolLM2", "chatml"),
        ("chatml-mistral", "OpenHermes 2.5", "chatml"),
        ("llama-3", "Meta Llama 3 8B Instruct", "llama-3"),
        ("llama-3", "openchat-3.6-8b-20240522", "openchat-3.6"),
        ("gemma", "gemma 2b it", "gemma"),
        ("gemma", "openchat-3.5-0106-gemma", "openchat-3.5-gemma"),
        ("zephyr", "zephyr-7b-beta", "zephyr"),
    ],
)
def test_without_a_template_special_tokens_and_name_tell(
    vocabulary: str, name: str, family: str, file_with: FileWith, vocabulary_of: VocabularyOf
) -> None:
    file = named(file_with(vocabulary, None), general__name=name)
    assert choose_template(file, vocabulary_of(vocabulary)).name == family


def test_a_model_that_tells_nothing_is_asked_about(
    file_with: FileWith, vocabulary_of: VocabularyOf
) -> None:
    file = named(file_with("zephyr", None), general__name="Mistral 7B v0.1")
    with pytest.raises(TemplateError, match="has no chat template; choose one with --template: z"):
        choose_template(file, vocabulary_of("zephyr"))


def test_an_override_wins_over_the_embedded_template(
    file_with: FileWith, vocabulary_of: VocabularyOf, published: Mapping[str, str]
) -> None:
    file, vocabulary = file_with("openchat", published["openchat-3.5"]), vocabulary_of("openchat")
    for name in ("openchat-3.2", "openchat-3.5", "zephyr", "jinja"):
        assert choose_template(file, vocabulary, name).name == name


def test_an_override_that_fits_keeps_the_models_default_system_prompt(
    template_of: Callable[..., Template], file_with: FileWith, vocabulary_of: VocabularyOf
) -> None:
    source = (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n"
        "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{{ '' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{{ '' }}{% endif %}"
    )
    for override in (None, "chatml"):
        template = choose_template(file_with("starter", source), vocabulary_of("starter"), override)
        assert isinstance(template, FamilyTemplate)
        assert template.default_system == "You are kind."


def test_an_override_works_where_the_embedded_template_is_broken(
    file_with: FileWith, vocabulary_of: VocabularyOf
) -> None:
    for broken in ("{% for %}", "{{ raise_exception('no') }}", "{{ nothing.at.all }}"):
        file = file_with("starter", broken)
        assert choose_template(file, vocabulary_of("starter"), "chatml").name == "chatml"
        with pytest.raises(TemplateError, match="choose one with --template: chatml, zephyr"):
            choose_template(file, vocabulary_of("starter"))


def test_an_unknown_override_lists_what_there_is(
    file_with: FileWith, vocabulary_of: VocabularyOf
) -> None:
    file, vocabulary = file_with("openchat", None), vocabulary_of("openchat")
    with pytest.raises(TemplateError, match=r"no template 'alpaca'.*openchat-3\.5.*jinja"):
        choose_template(file, vocabulary, "alpaca")
    with pytest.raises(TemplateError, match="lacks the control tokens of 'llama-3'"):
        choose_template(file, vocabulary, "llama-3")
    with pytest.raises(TemplateError, match="has no chat template of its own"):
        choose_template(file, vocabulary, "jinja")


def test_bos_that_is_also_a_header_token_is_written_once(
    file_with: FileWith, vocabulary_of: VocabularyOf, published: Mapping[str, str]
) -> None:
    vocabulary = vocabulary_of("starter")  # its BOS is <|im_start|>, and it asks for none
    for override in (None, "jinja"):
        template = choose_template(file_with("starter", published["chatml"]), vocabulary, override)
        ids = template.render(Conversation((Message("user", "Hi"),))).ids
        assert ids.count(1) == 2


def test_a_template_in_a_file_is_taken_for_the_models_own(
    model_path: Callable[[str], Path], vocabulary_of: VocabularyOf, tmp_path: Path
) -> None:
    file, vocabulary = read_gguf(model_path("openchat")), vocabulary_of("openchat")
    path = tmp_path / "mine.jinja"
    path.write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    template = choose_template(file, vocabulary, template_file.named(path))
    ids = template.render(Conversation((Message("user", "Hi"),))).ids
    text = b"".join(map(vocabulary.piece, ids)).decode()
    assert template.name == "jinja"
    assert "<user>" in text
    for content, says in (("", "is empty"), ("{% if %}", "own chat template cannot be used")):
        path.write_text(content)
        with pytest.raises(TemplateError, match=says):
            choose_template(file, vocabulary, template_file.named(path))
    with pytest.raises(TemplateError, match="cannot be read"):
        choose_template(file, vocabulary, template_file.named(tmp_path / "gone.jinja"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TemplateError, match="not UTF-8"):
        choose_template(file, vocabulary, template_file.named(path))
