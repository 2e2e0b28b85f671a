"""Plan formulas: a small typed expression language with exact decimals, checked when saved.

rule-engine parses, types and evaluates; it also evaluates constants *while* parsing and knows a
regex engine, a clock, random numbers, powers and shifts. So every token is compared with a short
allow-list before the parser sees the text, and what reaches it are only names this module made.
"""

from __future__ import annotations

import decimal
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import rule_engine
from rule_engine import ast, errors
from rule_engine.types import DataType

from shared.errors import AttainError, InvalidValue
from shared.money import MAX_DIGITS_BEFORE_POINT, quantise

MAX_LENGTH = 2048
"""Characters of a formula. Longer ones are programs, and cost what programs cost."""

MAX_TOKENS = 200
"""Tokens of a formula; bounds the tree, hence the time and depth of one evaluation."""

MAX_NESTING = 30
"""Open brackets at once; the parser and the evaluation recurse."""

_ARITHMETIC = decimal.Context(
    prec=60,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,10})?")
_TOKEN = re.compile(
    r"""\s+
    |(?P<text>"[^"\\\n]*"|'[^'\\\n]*')
    |(?P<number>\d[\w.]*)
    |(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    |(?P<operator>\?\?|==|!=|<=|>=|[-+*/<>()\[\],?:])(?![=~*/<>&])
    """,
    re.VERBOSE | re.ASCII,
)
_WORDS = frozenset({"and", "or", "not", "in", "true", "false"})


class ValueKind(StrEnum):
    """What a field or a formula is."""

    NUMBER = "number"
    TEXT = "text"
    FLAG = "flag"


_DATA_TYPES = {
    ValueKind.NUMBER: DataType.FLOAT,
    ValueKind.TEXT: DataType.STRING,
    ValueKind.FLAG: DataType.BOOLEAN,
}


@dataclass(frozen=True, slots=True)
class Field:
    """A name a formula may use.

    waits: the field may stand alone; while it is unknown, the credit waits. Every other field is
    optional and needs a default, written `??`.
    """

    kind: ValueKind
    waits: bool = False


Symbols = Mapping[str, Mapping[str, Field]]
"""Root (`deal`) → field (`amount`) → what it is."""

Values = Mapping[str, Mapping[str, object]]
"""Root → field → value: Decimal, str or bool; None or absent when unknown."""


class ExpressionInvalid(InvalidValue):
    """A formula is refused. `position` is the offset, from 0, of what is wrong."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.position = position


class FieldUnknown(AttainError):
    """A formula needs a field whose value is not known yet; the credit waits for it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not known yet")
        self.name = name


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


@dataclass(frozen=True)
class Expression:
    """A formula that has passed every check. Equal when its text is."""

    text: str
    kind: ValueKind
    names: tuple[str, ...]
    _rule: rule_engine.Rule = field(repr=False, compare=False)

    def evaluate(self, values: Values) -> Decimal | bool | str:
        """The formula's value; numbers at the stored step.

        Raises FieldUnknown while a field is missing that may stand alone, and InvalidValue when
        the result leaves the range of amounts or a value has another type than was declared.
        """
        try:
            result = self._rule.evaluate(values)
        except (errors.EngineError, ArithmeticError) as error:
            msg = f"{self.text!r} cannot be computed: {error}"
            raise InvalidValue(msg) from None
        if isinstance(result, Decimal):
            if result and result.adjusted() >= MAX_DIGITS_BEFORE_POINT:
                msg = f"{self.text!r} gives a number beyond {MAX_DIGITS_BEFORE_POINT} digits"
                raise InvalidValue(msg)
            return quantise(result)
        if isinstance(result, bool | str):
            return result
        msg = f"{self.text!r} gives no value"
        raise InvalidValue(msg)


def compile_expression(text: str, symbols: Symbols, kind: ValueKind) -> Expression:
    """A checked formula of the given kind over `symbols`.

    Raises ExpressionInvalid with a position for: anything outside the language, an unknown name
    (with the nearest known one), an optional field without `??`, unlike types, a division by
    anything but a number other than zero, too long a text.
    """
    if len(text) > MAX_LENGTH:
        msg = f"a formula has at most {MAX_LENGTH} characters"
        raise ExpressionInvalid(msg, MAX_LENGTH)
    tokens = list(_tokens(text))
    if not tokens:
        msg = "the formula is empty"
        raise ExpressionInvalid(msg, 0)
    if len(tokens) > MAX_TOKENS:
        msg = f"a formula has at most {MAX_TOKENS} names, numbers and operators"
        raise ExpressionInvalid(msg, tokens[MAX_TOKENS].position)
    _check_shape(tokens)
    places = _fields(tokens, symbols)
    rule = _parse(tokens, places)
    _check_types(rule, kind)
    return Expression(text, kind, tuple(sorted(places)), rule)


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            msg = f"{text[position : position + 2]!r} is not part of the formula language"
            raise ExpressionInvalid(msg, position)
        if match.lastgroup is not None:
            yield _Token(match.lastgroup, match.group(), position)
        position = match.end()


def _check_shape(tokens: list[_Token]) -> None:
    """What can be said of neighbours alone: literals, divisors, lists, nesting."""
    depth = 0
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else None
        after = tokens[index + 1] if index + 1 < len(tokens) else None
        if token.kind == "number" and not _NUMBER.fullmatch(token.text):
            msg = f"{token.text!r} is no plain number of at most 18 digits and 10 decimals"
            raise ExpressionInvalid(msg, token.position)
        refusal = _misplaced(token, before, after)
        if refusal:
            raise ExpressionInvalid(refusal, token.position)
        if token.kind == "operator":
            depth += (token.text in "([") - (token.text in ")]")
        if depth > MAX_NESTING:
            msg = f"more than {MAX_NESTING} brackets are open at once"
            raise ExpressionInvalid(msg, token.position)


def _misplaced(token: _Token, before: _Token | None, after: _Token | None) -> str:
    """Why `token` may not stand between its neighbours; empty when it may."""
    is_word = token.text in _WORDS
    if token.kind == "text" and before and before.kind != "operator" and before.text not in _WORDS:
        return "a text cannot follow a name; prefixes such as d'…' are not supported"
    if token.kind == "operator" and token.text == "/" and not _is_divisor(after):
        return "divide only by a number other than zero; multiply instead, or use a rate"
    if token.kind == "operator" and token.text == "[" and (before is None or before.text != "in"):
        return "a list is allowed only after `in`"
    if token.kind == "name" and token.text == "in" and (after is None or after.text != "["):
        return '`in` needs a list: deal.type in ["new", "expansion"]'
    if token.kind == "name" and not is_word and after is not None and after.text == "(":
        return f"{token.text} is no function; the language has none"
    return ""


def _is_divisor(token: _Token | None) -> bool:
    return token is not None and token.kind == "number" and Decimal(token.text) != 0


class _Place(NamedTuple):
    """Where a name's value is found, and what it is."""

    root: str
    name: str
    field: Field


def _fields(tokens: list[_Token], symbols: Symbols) -> dict[str, _Place]:
    """Dotted name → place, for every name used; refuses unknown ones and missing defaults."""
    places: dict[str, _Place] = {}
    for index, token in enumerate(tokens):
        if token.kind != "name" or token.text in _WORDS:
            continue
        root, _, name = token.text.partition(".")
        symbol = symbols.get(root, {}).get(name)
        if symbol is None:
            raise ExpressionInvalid(_unknown(token.text, symbols), token.position)
        following = tokens[index + 1].text if index + 1 < len(tokens) else ""
        if not symbol.waits and following != "??":
            default = {ValueKind.NUMBER: "0", ValueKind.TEXT: '""', ValueKind.FLAG: "false"}
            msg = f"{token.text} may be absent; write ({token.text} ?? {default[symbol.kind]})"
            raise ExpressionInvalid(msg, token.position)
        places[token.text] = _Place(root, name, symbol)
    return places


def _unknown(dotted: str, symbols: Symbols) -> str:
    known = sorted(f"{root}.{name}" for root, names in symbols.items() for name in names)
    near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown name {dotted}: {hint}"


def _parse(tokens: list[_Token], places: Mapping[str, _Place]) -> rule_engine.Rule:
    flat_of = {dotted: f"f{number}" for number, dotted in enumerate(places)}
    by_flat = {flat_of[dotted]: place for dotted, place in places.items()}
    types: dict[str, object] = {}
    for flat, place in by_flat.items():
        plain = _DATA_TYPES[place.field.kind]
        types[flat] = plain if place.field.waits else DataType.NULLABLE(plain)

    def resolve(values: Values, symbol: str) -> object:
        root, name, symbol_field = by_flat[symbol]
        value = values.get(root, {}).get(name)
        if value is None and symbol_field.waits:
            raise FieldUnknown(f"{root}.{name}")
        return value

    context = rule_engine.Context(
        resolver=resolve,
        type_resolver=types,
        decimal_context=_ARITHMETIC,
        default_timezone="utc",
        mapping_attribute_lookup=False,
    )
    words = [flat_of.get(token.text, token.text) for token in tokens]
    try:
        with decimal.localcontext(_ARITHMETIC):
            return rule_engine.Rule(" ".join(words), context=context)
    except errors.RuleSyntaxError as error:
        place_of_error = _position(error, words, tokens)
        msg = "the formula ends too early" if place_of_error is None else "this does not fit here"
        last = tokens[-1].position + len(tokens[-1].text)
        position = last if place_of_error is None else place_of_error
        raise ExpressionInvalid(msg, position) from None
    except errors.EngineError as error:
        said = str(error.message).split("(", maxsplit=1)[0].strip()
        msg = f"the formula does not read: {said}"
        raise ExpressionInvalid(msg, tokens[0].position) from None
    except (ArithmeticError, RecursionError):
        msg = "the formula's constants cannot be computed"
        raise ExpressionInvalid(msg, tokens[0].position) from None


def _position(error: errors.RuleSyntaxError, words: list[str], tokens: list[_Token]) -> int | None:
    """Where in the author's text the parser stopped; None at the end."""
    offset = getattr(error.token, "lexpos", None)
    if offset is None:
        return None
    start = 0
    for word, token in zip(words, tokens, strict=True):
        if offset <= start:
            return token.position
        start += len(word) + 1
    return tokens[-1].position


def _check_types(rule: rule_engine.Rule, kind: ValueKind) -> None:
    """Types the parser lets pass: for it `deal.amount == "x"` is false, `not deal.type` true."""
    wanted = _DATA_TYPES[kind]
    root = rule.statement.expression
    for node in _nodes(root):
        if isinstance(node, ast.ComparisonExpression):
            _same_type(node.left, node.right, "compares")
        elif isinstance(node, ast.LogicExpression):
            for side in (node.left, node.right):
                _is_flag(side)
        elif isinstance(node, ast.UnaryExpression) and node.type == "not":
            _is_flag(node.right)
        elif isinstance(node, ast.TernaryExpression):
            _is_flag(node.condition)
            _same_type(node.case_true, node.case_false, "chooses between")
        elif isinstance(node, ast.ContainsExpression):
            _check_members(node)
    if root.result_type != wanted:
        msg = f"the formula must give a {kind}, and gives {_type_name(root.result_type)}"
        raise ExpressionInvalid(msg, 0)


def _check_members(node: ast.ContainsExpression) -> None:
    members = getattr(node.container, "value", ())
    for member in members:
        _same_type(node.member, member, "looks for")


def _nodes(node: ast.ExpressionBase) -> Iterator[ast.ExpressionBase]:
    yield node
    for name in ("left", "right", "condition", "case_true", "case_false", "container", "member"):
        child = getattr(node, name, None)
        if isinstance(child, ast.ExpressionBase):
            yield from _nodes(child)


def _same_type(left: ast.ExpressionBase, right: ast.ExpressionBase, verb: str) -> None:
    if left.result_type != right.result_type or left.result_type == DataType.UNDEFINED:
        msg = (
            f"the formula {verb} {_type_name(left.result_type)} "
            f"and {_type_name(right.result_type)}, which are never alike"
        )
        raise ExpressionInvalid(msg, 0)


def _is_flag(node: ast.ExpressionBase) -> None:
    if node.result_type != DataType.BOOLEAN:
        msg = f"`and`, `or`, `not` and `?` need a yes or no, not {_type_name(node.result_type)}"
        raise ExpressionInvalid(msg, 0)


def _type_name(data_type: object) -> str:
    names = {DataType.FLOAT: "a number", DataType.STRING: "a text", DataType.BOOLEAN: "yes or no"}
    return next((name for known, name in names.items() if known == data_type), "a mixture")
