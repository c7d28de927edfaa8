"""Which template a model file gets: by what its own template does, not by what it is called."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openchat_local.models.conversation import Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.template.families import FAMILIES, Family
from openchat_local.models.template.family_template import FamilyTemplate, fits
from openchat_local.models.template.jinja_template import JinjaTemplate
from openchat_local.models.template.raw_template import RAW, RawTemplate
from openchat_local.models.template.rendering import Template
from openchat_local.models.template.sandbox import EmbeddedTemplate
from openchat_local.models.template.template_file import PREFIX, with_template_of
from openchat_local.models.vocabulary import Vocabulary

JINJA = "jinja"
_USER = Message("user", "How are you?")
_MULTI_TURN = (_USER, Message("assistant", "Well, thanks."), Message("user", "Good to hear."))
_SYSTEM = (Message("system", "Be brief."), _USER)


def choose_template(
    gguf_file: GGUFFile, vocabulary: Vocabulary, override: str | None = None
) -> Template:
    """The template of a model: `override`, or the family that writes what the embedded
    Jinja template writes, or that template itself, or without one the family that the
    file's name, special tokens and shape tell. "file:PATH" stands for the Jinja template in
    that file, which is taken for the model's own, and "raw" for none: text as it is.

    Raises TemplateError if there is no such template, the model cannot use it, or its own
    is broken.
    """
    if override == RAW:
        return RawTemplate(vocabulary)
    if override is not None and override.startswith(PREFIX):
        gguf_file, override = with_template_of(override, gguf_file), None
    fitting = [family for family in FAMILIES if fits(family, vocabulary)]
    advice = f"choose one with --template: {', '.join(family.name for family in fitting)}"
    if override is not None and override != JINJA:
        family = _named(override, fitting, advice)
        try:
            embedded = _embedded(gguf_file, vocabulary, advice)
            known = embedded and _matching(family, vocabulary, embedded)
        except TemplateError:  # the override is there to replace just that template
            known = None
        return known or _plain(family, vocabulary)
    embedded = _embedded(gguf_file, vocabulary, advice)
    if embedded is None:
        if override == JINJA:
            raise TemplateError(f"{gguf_file.path} has no chat template of its own; {advice}.")
        return _plain(_by_metadata(gguf_file, fitting, advice), vocabulary)
    if override is None:
        for family in fitting:
            if known := _matching(family, vocabulary, embedded):
                return known
    return JinjaTemplate(embedded, vocabulary)


def _named(name: str, fitting: Sequence[Family], advice: str) -> Family:
    for family in FAMILIES:
        if family.name == name:
            if family in fitting:
                return family
            raise TemplateError(
                f"This model's vocabulary lacks the control tokens of {name!r}; {advice}."
            )
    raise TemplateError(f"There is no template {name!r}; {advice}, {JINJA}.")


def _embedded(file: GGUFFile, vocabulary: Vocabulary, advice: str) -> EmbeddedTemplate | None:
    source = file.chat_template
    return None if source is None else EmbeddedTemplate(source, vocabulary, advice=advice)


def _plain(family: Family, vocabulary: Vocabulary) -> FamilyTemplate:
    return FamilyTemplate(family, vocabulary, bos=vocabulary.adds_bos, default_system=None)


def _matching(
    family: Family, vocabulary: Vocabulary, embedded: EmbeddedTemplate
) -> FamilyTemplate | None:
    """`family` as `embedded` writes it, its default system prompt included; None if the
    two write different prompts."""
    try:
        bare = FamilyTemplate(family, vocabulary, bos=embedded.bos, default_system=None)
        default_system = _default_system(bare, embedded.render((_USER,), generate=True))
        template = FamilyTemplate(
            family, vocabulary, bos=embedded.bos, default_system=default_system
        )
        agree = all(
            embedded.render(probe, generate=True) == template.text(probe)
            for probe in ((_USER,), _MULTI_TURN)
        )
        return template if agree and _same_system(template, embedded) else None
    except TemplateError:
        return None


def _default_system(template: FamilyTemplate, shown: str) -> str | None:
    """The system prompt that `shown`, a prompt without a system turn, has all the same."""
    if shown == template.text((_USER,)):
        return None
    before, _, after = template.text(_SYSTEM).partition(_SYSTEM[0].content)
    fits_around = shown.startswith(before) and shown.endswith(after)
    return shown[len(before) : len(shown) - len(after)] if fits_around else None


def _same_system(template: FamilyTemplate, embedded: EmbeddedTemplate) -> bool:
    if template.family.system_header == "":
        return True  # OpenChat's published Jinja and its training code disagree here
    try:
        shown = embedded.render(_SYSTEM, generate=True)
    except TemplateError:
        return template.family.system_header is None
    return shown == template.text(_SYSTEM)


def _by_metadata(file: GGUFFile, fitting: Sequence[Family], advice: str) -> Family:
    """OpenChat's files of 2023 have no embedded template; their name and shape tell."""
    name = file.name.lower().replace("_", ".") + " " + file.path.stem.lower()
    names = {family.name: family for family in fitting}
    if "openchat-3.5" in names:
        return names["openchat-3.5" if _is_mistral(file, name) else "openchat-3.2"]
    order = ["openchat-3.6"] if "openchat" in name else []
    order += ["llama-3", "chatml", "gemma"]
    order += ["zephyr"] if "zephyr" in name else []
    for candidate in order:
        if candidate in names:
            return names[candidate]
    raise TemplateError(f"{file.path} has no chat template; {advice}, or {RAW} for text as it is.")


def _is_mistral(file: GGUFFile, name: str) -> bool:
    """OpenChat 3.5 is a Mistral 7B, earlier versions are Llama 2."""
    if re.search(r"3\.5|mistral|starling", name):
        return True
    if re.search(r"openchat\D*(3\.[12]|v?[12]\b)|llama", name):
        return False
    return file.head_count_kv < file.head_count or file.context_length == 8192
