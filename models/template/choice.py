"""Which template a model file gets: by what its own template does, not by what it is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

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
from openchat_local.models.template.thoughts import has_field
from openchat_local.models.template.vocabulary import Vocabulary

JINJA = "jinja"
_USER = Message("user", "How are you?")
_REPLY = Message("assistant", "Well, thanks.")
_MORE = Message("user", "Good to hear.")
_SYSTEM = (Message("system", "Be brief."), _USER)
_THOUGHT = "<think>\nThe user is kind.\n</think>\n\nWell."


def _replied(text: str, asked: str = _USER.content) -> tuple[Message, ...]:
    return Message("user", asked), Message("assistant", text), _MORE


# What a template may write otherwise than the family does: see `_matching`.
_PLAIN = ((_USER,), (_USER, _REPLY, _MORE))
_CLOSED = ((_USER, _REPLY), (*_replied(_THOUGHT), Message("assistant", _THOUGHT)))
_LOOKED_INTO = (
    _replied(_THOUGHT),
    _replied(_THOUGHT.removeprefix("<think>\n")),
    _replied("<think>\nThe user"),
    _replied("Well. /think", "How? /no_think"),
    (_USER, _MORE),
)
_SWITCH = (Message("system", "Be brief. /no_think"), _USER)
_LATE_SYSTEM = (_USER, Message("system", "Be brief."), _MORE)
_SPACED = ((*_replied("\n Well. \n", " \tHow?\n"),), (Message("system", " Be brief.\n"), _USER))


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
        with suppress(TemplateError):  # the override is there to replace just that template
            embedded = _embedded(gguf_file, vocabulary, advice)
            if embedded and (known := _matching(family, vocabulary, embedded)):
                return _knowing_tools(known, embedded)
        return _plain(family, vocabulary)
    embedded = _embedded(gguf_file, vocabulary, advice)
    if embedded is None:
        if override == JINJA:
            raise TemplateError(f"{gguf_file.path} has no chat template of its own; {advice}.")
        family, note = _by_metadata(gguf_file, fitting, advice)
        return _plain(family, vocabulary, note)
    if override is None:
        for family in fitting:
            if known := _matching(family, vocabulary, embedded):
                return _knowing_tools(known, embedded)
    return JinjaTemplate(embedded, vocabulary)


def _knowing_tools(template: Template, embedded: EmbeddedTemplate) -> Template:
    """A family's template, which lets the embedded one write conversations with tools: no family
    does."""
    if "tools" in embedded.source:
        with suppress(TemplateError):
            template.know_tools(JinjaTemplate(embedded, template.vocabulary))
    return template


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


def _plain(family: Family, vocabulary: Vocabulary, note: str | None = None) -> FamilyTemplate:
    return FamilyTemplate(
        family, vocabulary, bos=vocabulary.adds_bos, default_system=None, note=note
    )


def _matching(
    family: Family, vocabulary: Vocabulary, embedded: EmbeddedTemplate
) -> FamilyTemplate | None:
    """`family` as `embedded` writes it, its default system prompt included; None if the
    two write different prompts."""
    try:
        bare = FamilyTemplate(family, vocabulary, bos=embedded.bos, default_system=None)
        default_system = _default_system(bare, embedded.render((_USER,), generate=True))
        if default_system is not None and embedded.tells_time:
            return None  # tomorrow it is another
        if embedded.switches_thinking or has_field(embedded.write):
            return None  # no family does, or has
        template = FamilyTemplate(
            family, vocabulary, bos=embedded.bos, default_system=default_system
        )
        if any(embedded.render(p, generate=True) != template.text(p) for p in _PLAIN):
            return None
    except TemplateError:
        return None
    probes = [(probe, True) for probe in _LOOKED_INTO] + [(probe, False) for probe in _CLOSED]
    if not family.trained_apart:
        probes += [(probe, True) for probe in (_SWITCH, *_SPACED)]
        # One that folds a late system turn is held to nothing: Gemma's Jinja makes it a role.
        probes += [(_LATE_SYSTEM, True)] if family.system_header is not None else []
    if not all(_agree(template, embedded, *probe) for probe in probes):
        return None
    return template if family.trained_apart or _same_system(template, embedded) else None


def _default_system(template: FamilyTemplate, shown: str) -> str | None:
    """The system prompt that `shown`, a prompt without a system turn, has all the same."""
    if shown == template.text((_USER,)):
        return None
    before, _, after = template.text(_SYSTEM).partition(_SYSTEM[0].content)
    fits_around = shown.startswith(before) and shown.endswith(after)
    return shown[len(before) : len(shown) - len(after)] if fits_around else None


def _same_system(template: FamilyTemplate, embedded: EmbeddedTemplate) -> bool:
    """Whether system turns are written alike, or folded where the template refuses them."""
    try:
        return embedded.render(_SYSTEM, generate=True) == template.text(_SYSTEM)
    except TemplateError:
        return template.family.system_header is None


def _agree(
    template: FamilyTemplate, embedded: EmbeddedTemplate, probe: Sequence[Message], generate: bool
) -> bool:
    """Whether both write `probe` alike; a family may also write what a template refuses."""
    try:
        return embedded.render(probe, generate=generate) == template.text(probe, generate=generate)
    except TemplateError:
        return True


def _by_metadata(
    file: GGUFFile, fitting: Sequence[Family], advice: str
) -> tuple[Family, str | None]:
    """OpenChat's files of 2023 have no embedded template; their name and shape tell. Also a
    note, where they tell too little to be sure."""
    name = file.name.lower().replace("_", ".") + " " + file.path.stem.lower().replace("_", ".")
    names = {family.name: family for family in fitting}
    if "openchat-3.5" in names:
        version, note = _openchat_version(file, name)
        if version is None:
            raise TemplateError(
                f"{file.path} has no chat template and does not tell which OpenChat it is; "
                f"{advice}."
            )
        return names[f"openchat-{version}"], note
    order = ["openchat-3.6", "openchat-3.5-gemma"] if "openchat" in name else []
    order += ["llama-3", "chatml", "gemma"]
    order += ["zephyr"] if "zephyr" in name else []
    for candidate in order:
        if candidate in names:
            return names[candidate], None
    raise TemplateError(f"{file.path} has no chat template; {advice}, or {RAW} for text as it is.")


def _openchat_version(file: GGUFFile, name: str) -> tuple[str | None, str | None]:
    """The version of an OpenChat of 2023, or None, and a note if it is a guess."""
    if re.search(r"opencoder", name):
        return None, None
    if re.search(r"3\.5|mistral|starling", name):
        return "3.5", None
    if found := re.search(r"openchat[^\da-z]*v?(3\.[12]|[12](?!\d|b|\.\d))", name):
        return found[1], None
    if re.search(r"openchat[^\da-z]*(v?1\.\d|8192)", name):
        return "1", None
    if re.search(r"openchat[^\da-z]*v?\d(?!\d*b)", name):
        return None, None  # a version of which we know nothing
    # 3.5 is a Mistral 7B; 3.1 and 3.2 are Llama 2, the first two LLaMA.
    is_llama = "llama" in name
    if not is_llama and (file.head_count_kv < file.head_count or file.context_length == 8192):
        return "3.5", None
    if file.context_length < 4096:
        return None, None
    note = (
        "The model file does not tell which OpenChat it is and is taken for 3.2: if it is "
        "another, choose its template with --template, such as openchat-3.1."
    )
    return "3.2", note
