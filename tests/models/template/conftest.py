"""Templates as their authors published them, and models that embed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary

_OPENCHAT_3_5 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content']"
    " + '<|end_of_turn|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)
_HUMAN = "{'user': 'Human', 'assistant': 'Assistant'}[message['role']] + ':  '"
_GPT4_AFTER = "message['role'].title() + (' GPT4' if message['role'] == 'assistant' else '')"
_LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

# From the tokenizer_config.json of the models that give the families their names. OpenChat
# up to 3.2 published none: they stand here as 3.5's under their own conditions.
PUBLISHED: Mapping[str, str] = {
    "openchat-1": _OPENCHAT_3_5.replace("GPT4 Correct Assistant:", "Assistant: ").replace(
        "'GPT4 Correct ' + message['role'].title() + ': '", _HUMAN
    ),
    "openchat-2": _OPENCHAT_3_5.replace("GPT4 Correct Assistant:", "Assistant GPT4:").replace(
        "'GPT4 Correct ' + message['role'].title()", _GPT4_AFTER
    ),
    "openchat-3.1": _OPENCHAT_3_5.replace("GPT4 Correct ", "").replace(
        "{{ bos_token }}", "{{ bos_token + 'Assistant is GPT4<|end_of_turn|>' }}"
    ),
    "openchat-3.2": _OPENCHAT_3_5.replace("GPT4 Correct", "GPT4"),
    "openchat-3.5": _OPENCHAT_3_5,
    "openchat-3.5-gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{% set loop_messages = messages[1:] %}"
        "{% set system_message = messages[0]['content'].strip() + '\n\n' %}{% else %}"
        "{% set loop_messages = messages %}{% set system_message = '' %}{% endif %}"
        "{% for message in loop_messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
        "{% if loop.index0 == 0 %}{% set content = system_message + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{{ 'GPT4 Correct ' + message['role'].title() + ': ' + content + '<end_of_turn>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
    ),
    "openchat-3.6": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] in ['user', 'assistant'] %}"
        "{% set content = '<|start_header_id|>GPT4 Correct ' + message['role'].title() +"
        " '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
        "{% elif message['role'] == 'system' %}{% set content = '<|start_header_id|>System"
        "<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% else %}"
        "{{ raise_exception('Only user, assistant and system roles are supported!') }}{% endif %}"
        "{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>GPT4 Correct Assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "chatml": (
        "{% for message in messages %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content']"
        " + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama-3": _LLAMA_3,
    "gemma": (
        "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n"
        "    {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n"
        "    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n"
        '    {%- set first_user_prefix = "" -%}\n    {%- set loop_messages = messages -%}\n'
        "{%- endif -%}\n{%- for message in loop_messages -%}\n"
        "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n"
        '        {{ raise_exception("Conversation roles must alternate user/assistant/...") }}\n'
        "    {%- endif -%}\n    {%- if (message['role'] == 'assistant') -%}\n"
        '        {%- set role = "model" -%}\n    {%- else -%}\n'
        "        {%- set role = message['role'] -%}\n    {%- endif -%}\n"
        "    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}\n"
        "    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n"
        "    {%- endif -%}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n"
    ),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
        "{% endfor %}"
    ),
    # None of our families.
    "mistral": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token}}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
        "{% endif %}{% endfor %}"
    ),
}

# A vocabulary for each family.
VOCABULARY_OF_FAMILY = {
    "openchat-1": "openchat",
    "openchat-2": "openchat",
    "openchat-3.1": "openchat",
    "openchat-3.2": "openchat",
    "openchat-3.5": "openchat",
    "openchat-3.6": "llama-3",
    "chatml": "starter",
    "llama-3": "llama-3",
    "gemma": "gemma",
    "openchat-3.5-gemma": "gemma",
    "zephyr": "zephyr",
    "mistral": "zephyr",
}


@pytest.fixture(scope="session")
def published() -> Mapping[str, str]:
    """Chat templates in Jinja, by family; "mistral" is of none of our families."""
    return PUBLISHED


@pytest.fixture(scope="session")
def file_with(model_path: Callable[[str], Path]) -> Callable[[str, str | None], GGUFFile]:
    """The header of the model with that vocabulary, with another chat template or none."""

    def header(vocabulary: str, chat_template: str | None) -> GGUFFile:
        file = read_gguf(model_path(vocabulary))
        metadata = dict(file.metadata)
        metadata.pop("tokenizer.chat_template", None)
        if chat_template is not None:
            metadata["tokenizer.chat_template"] = chat_template
        return replace(file, metadata=metadata)

    return header


@pytest.fixture(scope="session")
def template_of(
    file_with: Callable[[str, str | None], GGUFFile],
    vocabulary_of: Callable[[str], Vocabulary],
) -> Callable[..., Template]:
    """The template that the published one of a family is recognised as, on `vocabulary`."""

    def template(
        family: str, vocabulary: str | None = None, override: str | None = None
    ) -> Template:
        vocabulary = vocabulary or VOCABULARY_OF_FAMILY[family]
        file = file_with(vocabulary, PUBLISHED[family])
        return choose_template(file, vocabulary_of(vocabulary), override)

    return template


@pytest.fixture(scope="session")
def jinja(
    file_with: Callable[[str, str | None], GGUFFile],
    vocabulary_of: Callable[[str], Vocabulary],
) -> Callable[..., Template]:
    """The fallback for a template's source, on the starter's vocabulary or another."""

    def make(source: str, vocabulary: str = "starter", override: str | None = "jinja") -> Template:
        return choose_template(file_with(vocabulary, source), vocabulary_of(vocabulary), override)

    return make


@pytest.fixture(scope="session")
def llama_cpp_ids(model_path: Callable[[str], Path]) -> Callable[[str, str], list[int]]:
    """Whole prompts tokenised by llama.cpp in one go, the file's own settings untouched."""
    import llama_cpp

    @cache
    def model(vocabulary: str) -> Any:
        return llama_cpp.Llama(str(model_path(vocabulary)), vocab_only=True, verbose=False)

    def tokenize(vocabulary: str, prompt: str) -> list[int]:
        llama = model(vocabulary)
        bos = llama.detokenize([llama.token_bos()], special=True).decode()
        add_bos = vocabulary != "starter" and not prompt.startswith(bos)
        ids: list[int] = llama.tokenize(prompt.encode(), add_bos=add_bos, special=True)
        return ids

    return tokenize
