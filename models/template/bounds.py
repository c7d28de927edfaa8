"""Jinja in which no expression makes a large value out of small ones.

(Jinja's own sandbox bounds `range` alone.) A deadline stops a template between two steps, but a
single step (`'a'.center(10**9)`, a join of a thousand references to one long text) fills
gigabytes before the next. So every step that can grow a value is asked beforehand how large its
result will be. The same steps keep the marks of the messages' contents (see `marked`): what
Python would do on its own with a string goes through `Marked` or is covered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.runtime import BlockReference, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from openchat_local.models.template import marked
from openchat_local.models.template.marked import OWN, Marked

LIMIT = 4_000_000  # characters or elements, besides what the contents need (see `room_for`)
_MOST_COLUMNS = 10_000
# Methods of the template's own strings whose arguments end up in the result.
_MARKED_METHODS = frozenset({"replace", "split", "rsplit", "partition", "rpartition"})
# Filters that give back what they were given, or ask `Marked` for all that they do.
_KEEPING_FILTERS = frozenset(
    {"attr", "d", "default", "first", "last", "list", "lower", "max", "min", "random", "replace",
     "reverse", "string", "trim", "upper"}
)  # fmt: skip
_STAR_WIDTH = re.compile(r"%[-+ #0]*(\*|\d*\.\*)")
_extra: ContextVar[int] = ContextVar("extra", default=0)


@contextmanager
def room_for(characters: int) -> Iterator[None]:
    """Let values be larger than `LIMIT` by a few times the contents, which templates copy."""
    token = _extra.set(4 * characters)
    try:
        yield
    finally:
        _extra.reset(token)


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox, whose values stay below `LIMIT`; OverflowError otherwise.
    Text made of `Marked` strings is `Marked`."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=_written, **options)
        self.filters = {name: _bounded(name, f) for name, f in self.filters.items()}

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Add a filter within the same bounds."""
        self.filters[name] = _bounded(name, function)

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """What blocks and macros have written; Jinja's own is `"".join`."""
        return _joined("", parts)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise OverflowError("it uses the operator **")
        if operator == "%" and isinstance(left, str | bytes):
            _check_format(left, right)
            if isinstance(left, str):
                return marked.percent(left, right)
        elif operator == "*":
            _check(_factor(left) * _factor(right))
        elif operator == "+" and not isinstance(left, int | float):
            _check(weight(left) + weight(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(obj, "__self__", None)
        if not isinstance(owner, str | bytes):
            result = super().call(context, obj, *args, **kwargs)
            # A macro writes: its text is marked already.
            writes = isinstance(obj, Macro | LoopContext | BlockReference)
            return result if writes else marked.covering(result, (args, kwargs))
        name = obj.__name__
        if name == "join" and isinstance(owner, str) and len(args) == 1:
            return _joined(owner, args[0])
        _check_method(owner, name, [*args, *kwargs.values()])
        if (
            name in _MARKED_METHODS
            and type(owner) is str
            and marked.marks((args, kwargs)) is not None
        ):
            obj = getattr(marked.mark(owner, OWN), name)
        return marked.covering(super().call(context, obj, *args, **kwargs), (owner, args, kwargs))

    def wrap_str_format(self, value: Any) -> Any:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            if re.search(r"\{[^{}]*\{", value.__self__):
                raise OverflowError("it computes the width of a field")
            _check_format(value.__self__, [*args, *kwargs.values()])
            filled = wrapped(*args, **kwargs)
            if kwargs or value.__name__ != "format":
                return marked.covered(filled, (value.__self__, args, kwargs))
            return marked.braces(value.__self__, args, filled)

        return checked

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template: nodes.Template = _Concatenations().visit(super()._parse(source, name, filename))
        return template


class _Concatenations(NodeTransformer):
    """`a ~ b` becomes `[a, b] | join`: the operator alone cannot be intercepted."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja names it
        parts = nodes.List([self.visit(part) for part in node.nodes], lineno=node.lineno)
        return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno)


def weight(value: Any) -> int:
    """About how many characters `value` is when it is written out; OverflowError if they are
    more than `LIMIT`."""
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
            total += len(item)
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
            total += len(item)
        else:
            total += 1
        _check(total + len(waiting))
    return total


def _check(size: float) -> None:
    if size > LIMIT and size > LIMIT + _extra.get():
        raise OverflowError("it makes too large a value")


def _written(value: Any) -> str:
    weight(value)
    return marked.written(value)


def _factor(value: Any) -> float:
    return abs(value) if isinstance(value, int | float) else weight(value)


def _joined(separator: str, parts: Iterable[Any]) -> str:
    """`separator.join` of parts that are counted as they come."""
    strings: list[str] = []
    size = 0
    for part in parts:
        size += weight(part) + len(separator)
        _check(size)
        strings.append(part)
    if isinstance(separator, Marked) or any(isinstance(part, Marked) for part in strings):
        return marked.join(separator, strings)
    return separator.join(strings)


def _check_format(text: str | bytes, values: Any) -> None:
    """Widths, precisions and the values themselves, for `%` and for `format`."""
    shown = text.decode("latin-1") if isinstance(text, bytes) else text
    if _STAR_WIDTH.search(shown):
        raise OverflowError("it computes the width of a field")
    fields = shown.count("%") + shown.count("{")
    # Ten digits are enough to be too wide.
    widths = sum(int(digits[:10]) for digits in re.findall(r"0*(\d+)", shown))
    _check(len(shown) + widths + fields * weight(values))


def _check_method(owner: str | bytes, name: str, args: list[Any]) -> None:
    numbers = [abs(arg) for arg in args if isinstance(arg, int)]
    if name in ("center", "ljust", "rjust", "zfill"):
        _check(max(numbers, default=0))
    elif name == "expandtabs":
        _check(len(owner) * max(numbers, default=8))
    elif name == "replace" and len(args) >= 2:
        _check_replace(owner, args[0], args[1])
    elif name == "translate" and args and isinstance(args[0], Mapping):
        longest = max((weight(new) for new in args[0].values()), default=0)
        _check(len(owner) * max(1, longest))
    elif name == "join":
        raise OverflowError("it joins bytes")


def _check_replace(text: Any, old: Any, new: Any) -> None:
    found = text.count(old) if old else len(text) + 1
    _check(len(text) + found * weight(new))


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes and gives bounded values. Markers that Jinja has put on the function
    (`pass_environment` and the like) are copied by `wraps`."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        for arg in (*args[skipped:], *kwargs.values()):
            weight(arg)
        passed, values = args[:skipped], [*args[skipped:], *kwargs.values()]
        if name in ("join", "sum") and values and not isinstance(values[0], str):
            # A generator can be counted only by running it.
            values[0] = _counted(values[0])
            args = (*passed, values[0], *args[skipped + 1 :])
        _check_filter(name, values)
        if name == "join" and len(args) <= skipped + 2 and not kwargs:
            parts = map(marked.written, values[0])
            return _joined(marked.written(values[1]) if len(values) > 1 else "", parts)
        if name == "replace" and type(values[0]) is str:
            args = (*passed, marked.mark(values[0], OWN), *args[skipped + 1 :])
        if name == "format" and isinstance(values[0], str) and not kwargs:
            return marked.percent(values[0], tuple(values[1:]))
        if name == "safe":  # nothing is escaped here
            return marked.written(values[0])
        result = function(*args, **kwargs)
        if not isinstance(result, str):
            return result  # lists that filters give back hold what they were given
        keeps = name in _KEEPING_FILTERS
        return marked.covered(result, values) if keeps else marked.smeared(result, values)

    return bounded


def _counted(items: Iterable[Any]) -> list[Any]:
    counted: list[Any] = []
    size = 0
    for item in items:
        size += weight(item) + 1
        _check(size)
        counted.append(item)
    return counted


def _check_filter(name: str, values: list[Any]) -> None:
    subject, *rest = values or [""]
    numbers = [abs(value) for value in rest if isinstance(value, int)]
    size = len(subject) if isinstance(subject, str | list) else 1
    texts = [len(value) for value in rest if isinstance(value, str)]
    match name:
        case "center" | "batch" | "slice" | "tojson" | "truncate" | "round":
            if max(numbers, default=0) > _MOST_COLUMNS:
                raise OverflowError(f"it uses the filter {name} with a large number")
        case "indent":
            lines = subject.count("\n") + 1 if isinstance(subject, str) else 1
            _check(lines * max([*numbers, *texts], default=4))
        case "join" | "wordwrap":
            _check(size * max(1, *texts) if texts else size)
        case "replace" if isinstance(subject, str) and len(rest) >= 2:
            _check_replace(subject, str(rest[0]), str(rest[1]))
        case "format":
            _check_format(str(subject), rest)
        case "sum" if any(not isinstance(item, int | float) for item in subject):
            raise OverflowError("it adds up what are no numbers")
