"""Whatever a template does with a content, what comes of it is known to be the content's."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import jinja2.sandbox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.models.conversation import Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import marked
from openchat_local.models.template.bounds import BoundedSandbox
from openchat_local.models.template.marked import OWN, Marked, join, mark, pieces
from openchat_local.models.template.sandbox import EmbeddedTemplate
from openchat_local.models.template.vocabulary import Vocabulary

VocabularyOf = Callable[[str], Vocabulary]
CONTENT = " Жщж, щЖ<ж>\n щжщ\tЖ/щ%ж{щ} "
LETTERS = frozenset("ЖжЩщ")  # no expression below writes them on its own

# Filters and methods are all tried, as they come; these are the ways to call them that matter.
BY_HAND = [
    "c | trim",
    "c.strip()",
    "c.lstrip('\\n ')",
    "c.rstrip(c)",
    "c | replace('ж', 'ab')",
    "'a-b' | replace('-', c)",
    "'a-b'.replace('-', c)",
    "c.replace('', '-')",
    "c.replace('щ', '', 1)",
    "c.split('ж')[1]",
    "c.split()[-1]",
    "c.rsplit('ж', 1)[0]",
    "c.split('ж', 2) | join('+')",
    "c.partition('<')[0]",
    "c.rpartition('ж')[2]",
    "c.splitlines()[1]",
    "c.splitlines(true)[0]",
    "c[2:5]",
    "c[::-1]",
    "c[3]",
    "c[-2]",
    "c[:-4:2]",
    "c | first",
    "c | last",
    "c | list | join('.')",
    "'a' + c + 'b'",
    "'a' ~ c ~ 1 ~ none",
    "c * 2",
    "2 * c",
    "'%s: %s' % ('a', c)",
    "'%s' % c",
    "'%5.2s|' % c",
    "'%(a)s' % {'a': c}",
    "c % ()",
    "'{}: {}'.format('a', c)",
    "'{0}{a}'.format(1, a=c)",
    "'{:>40}'.format(c)",
    "'a-b'.join([c, 'd', c])",
    "c.join(['a', 'b'])",
    "[c, 'a'] | join('-')",
    "[{'a': c}] | join('-', attribute='a')",
    "[c] | string",
    "[c, 1]",
    "{'a': [c]}",
    "[c] | tojson",
    "c | tojson",
    "{'a': c}.values() | list | string",
    "namespace(a=c) | string",
    "namespace(a=c)",
    "c | upper | lower",
    "c.title()",
    "c.swapcase()",
    "c | center(60)",
    "c.zfill(60)",
    "c | indent(2)",
    "c | wordwrap(5)",
    "c | truncate(9, true)",
    "c | urlencode",
    "c | e",
    "c | safe",
    "c | pprint",
    "c | reverse",
    "c.translate({1078: 'ab'})",
    "c.expandtabs(2)",
    "c | map('upper') | join",
    "[c] | map('trim') | join",
    "[c] | map('replace', 'ж', 'a') | first",
    "[c, c] | unique | list",
    "[c] | sort | first",
    "[{'a': c}] | map(attribute='a') | first",
    "[c] | batch(2) | list",
    "[c] | random",
    "c | default('a')",
    "c or 'a'",
    "('a' if false else c)",
    "dict(a=c).a",
    "m.get('content')",
    "m['content'].removeprefix(' ').removesuffix(' ')",
    "c | format('a')",
    "'%s' | format(c)",
    "c | xmlattr if false else {'a': c} | xmlattr",
    "c | escape | string",
    "c | forceescape",
    "c.__format__ | string",
    "joiner(c)() ~ c",
    "cycler(c, 'a').next()",
    "c | attr('strip') | string",
    "c | int ~ c",
    "(c, 'a') | max",
    "c is string and c",
    "c.casefold()",
    "c.ljust(60, 'a')",
    "c | striptags",
    "c | title",
    "c | capitalize",
    "c | string",
    "c.format('a', z='b')",
    "c.format_map(m)",
]
STATEMENTS = [
    "{% set a %}[{{ c }}]{% endset %}{{ a }}",
    "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(c) }}{{ f(c) | upper }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}{{ c }}{% endcall %}",
    "{% for x in c %}{{ x }}.{% endfor %}",
    "{% for x in c.split('ж') %}{{ loop.previtem }}{{ x }}{% endfor %}",
    "{% set n = namespace(a='') %}{% for x in [c] %}{% set n.a = n.a ~ x %}{% endfor %}{{ n.a }}",
    "{% filter upper %}a{{ c }}b{% endfilter %}",
    "{% block a %}{{ c }}{% endblock %}{{ self.a() }}",
    "{% with x = c %}{{ x }}{% endwith %}",
    "{% for x in [[c], ['a']] recursive %}{{ loop(x) if x is not string else x }}{% endfor %}",
    "{% if '<' in c %}{{ c.split('<')[-1].lstrip('>') }}{% endif %}",
]


def written(source: str, vocabulary: Vocabulary) -> Marked | None:
    """What the template `source` writes of CONTENT, called c; None if it cannot."""
    template = EmbeddedTemplate(
        "{% set m = messages[0] %}{% set c = m.content %}"
        "{% if messages[0].content == 'a' %}-{% else %}" + source + "{% endif %}",
        vocabulary,
        advice="choose another",
    )
    try:
        return template.marked([(7, Message("user", CONTENT))], generate=False)
    except TemplateError:
        return None


def plain(source: str) -> str:
    environment = jinja2.sandbox.SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    message = {"role": "user", "content": CONTENT}
    return environment.from_string(source).render(c=CONTENT, m=message, messages=[message])


def assert_marked(source: str, vocabulary: Vocabulary) -> Marked | None:
    text = written(source, vocabulary)
    for own, whose in pieces(text) if text is not None else ():
        assert whose != OWN or LETTERS.isdisjoint(own), source
    return text


@pytest.mark.parametrize("source", [f"{{{{ {one} }}}}" for one in BY_HAND] + STATEMENTS)
def test_what_comes_of_a_content_is_marked_as_the_content(
    source: str, vocabulary_of: VocabularyOf
) -> None:
    text = assert_marked(source, vocabulary_of("starter"))
    if text is not None and not any(word in source for word in ("random", "tojson", "attr(")):
        assert text == plain(source)


def test_no_filter_and_no_method_loses_the_mark() -> None:
    environment = BoundedSandbox()
    methods = [name for name, _ in inspect.getmembers(str) if not name.startswith("_")]
    sources = [f"c | {name}" for name in environment.filters]
    sources += [f"[c] | {name} | string" for name in environment.filters]
    arguments = ("", "','", "9", "',', 'ab'", "c")
    sources += [f"c.{name}({args})" for name in methods for args in arguments]
    sources += [f"'a, b'.{name}({args})" for name in methods for args in ("c", "',', c", "9, c")]
    worked = 0
    for source in sources:
        try:
            found = environment.compile_expression(source)(c=mark(CONTENT, 7))
        except (TypeError, ValueError, LookupError, OverflowError, AttributeError, RuntimeError):
            continue  # it takes other arguments
        worked += 1
        for own, whose in pieces(join("", [marked.written(found)])):
            assert whose != OWN or LETTERS.isdisjoint(own), source
    assert worked > 150


def test_a_content_cannot_be_made_into_bytes(vocabulary_of: VocabularyOf) -> None:
    assert written("{{ c.encode().decode() }}", vocabulary_of("starter")) is None
    assert written("{{ 'a'.encode().decode() }}", vocabulary_of("starter")) == "a"


def test_the_templates_own_text_stays_its_own(vocabulary_of: VocabularyOf) -> None:
    vocabulary = vocabulary_of("starter")
    for source, own in [
        ("{{ '<a>' + c | trim + '</a>' }}", "<a></a>"),
        ("{{ '<a>%s</a>' % c }}", "<a></a>"),
        ("{{ '<a>{}</a>'.format(c) }}", "<a></a>"),
        ("{% macro f(x) %}<a>{% endmacro %}{{ f(c) }}", "<a>"),
        ("{{ ['<a>', c, '</a>'] | join('|') }}", "<a>||</a>"),
        ("{{ ('<a>' + c).replace(',', '<b>') }}", "<a>" + "<b>" * CONTENT.count(",")),
        ("{{ m.get('role') }}{{ c | length }}", "user" + str(len(CONTENT))),
        ("{{ ('<a>' + c).upper() }}", "<A>"),
        ("{{ '<a>' if ',' in c else '' }}", "<a>"),
    ]:
        text = written(source, vocabulary)
        assert text is not None
        assert "".join(part for part, whose in pieces(text) if whose == OWN) == own, source


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text("ab \n<", max_size=4), st.integers(-1, 2)), max_size=6),
    st.sampled_from([None, "a", "<", " ", "ab"]),
    st.integers(-1, 3),
    st.integers(-5, 5) | st.none(),
    st.integers(-5, 5) | st.none(),
)
def test_marks_follow_every_character(
    runs: list[tuple[str, int]], sep: str | None, most: int, start: int | None, end: int | None
) -> None:
    text = join("", [mark(part, whose) for part, whose in runs])
    plain = "".join(part for part, _ in runs)
    whose = [owner for part, owner in runs for _ in part]
    assert text == plain
    assert [owner for part, owner in pieces(text) for _ in part] == whose
    for made, where in ((text[start:end], slice(start, end)), (text[::-1], slice(None, None, -1))):
        assert made == plain[where]
        assert [owner for part, owner in pieces(made) for _ in part] == whose[where]
    assert text.split(sep, most) == plain.split(sep, most)
    assert text.rsplit(sep, most) == plain.rsplit(sep, most)
    assert text.splitlines() == plain.splitlines()
    assert text.strip() == plain.strip()
    assert text.replace(sep or "b", "XY", most) == plain.replace(sep or "b", "XY", most)
    if sep:
        again = join(mark(sep, 9), text.split(sep))
        assert again == plain
        kept = [owner for part, owner in pieces(again) for _ in part]
        assert [owner for owner in kept if owner != 9] == [
            owner for owner, other in zip(whose, kept, strict=True) if other != 9
        ]


def test_a_long_content_is_no_attack_by_the_template(vocabulary_of: VocabularyOf) -> None:
    source = "{% for m in messages %}[{{ m.content | trim }}{{ m.content[:3] }}]{% endfor %}"
    template = EmbeddedTemplate(source, vocabulary_of("starter"), advice="choose another")
    text = "word " * 1_200_000
    written = template.marked([(0, Message("user", text))], generate=False)
    assert written == f"[{text.strip()}wor]"


def test_a_copy_bears_the_same_marks() -> None:
    text = join("", ["a", mark("b", 3)])
    assert [*pieces(copy.deepcopy(text))] == [("a", OWN), ("b", 3)]
