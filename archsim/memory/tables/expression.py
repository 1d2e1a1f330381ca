"""Arithmetic over timing names, without eval: `max(tCCD_L, BL_ck + 2) - WL`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from archsim.errors import ConfigError, unknown_name

_WORD = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|([A-Za-z_]\w*)|(//|[-+*/(),]))")
_FUNCTIONS: dict[str, Callable[..., Fraction]] = {
    "max": max,
    "min": min,
    "ceil": lambda x: Fraction(math.ceil(x)),
    "floor": lambda x: Fraction(math.floor(x)),
}
_MAX_LENGTH = 200


def evaluate(text: str, names: Mapping[str, int | Fraction]) -> Fraction:
    """Exact value of `text`. Raises ConfigError for a syntax error, an unknown name or a division by zero."""
    if len(text) > _MAX_LENGTH:
        raise ConfigError(f"expression longer than {_MAX_LENGTH} characters: {text[:40]!r}...")
    parser = _Parser(text, names)
    value = parser.sum()
    if parser.peek():
        raise parser.error(f"unexpected {parser.peek()!r}")
    return value


class _Parser:
    """Recursive descent: sum > product > factor."""

    def __init__(self, text: str, names: Mapping[str, int | Fraction]) -> None:
        self.text, self.names = text, names
        self.words = self._words(text)
        self.at = 0
        self.depth = 0

    def error(self, problem: str) -> ConfigError:
        return ConfigError(f"expression {self.text!r}: {problem}")

    def _words(self, text: str) -> list[str]:
        words, position = [], 0
        while position < len(text.rstrip()):
            match = _WORD.match(text, position)
            if match is None:
                raise self.error(f"unexpected {text[position:].strip()[:10]!r}")
            words.append(match.group(match.lastindex or 0))
            position = match.end()
        return words

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self) -> str:
        word = self.peek()
        self.at += 1
        return word

    def expect(self, word: str) -> None:
        if self.take() != word:
            raise self.error(f"expected {word!r}")

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.factor()
        while self.peek() in ("*", "/", "//"):
            operator, right = self.take(), self.factor()
            if operator != "*" and right == 0:
                raise self.error("division by zero")
            value = value * right if operator == "*" else value / right
            if operator == "//":
                value = Fraction(math.floor(value))
        return value

    def factor(self) -> Fraction:
        self.depth += 1
        if self.depth > 50:
            raise self.error("nested too deeply")
        word = self.take()
        if word == "-":
            value = -self.factor()
        elif word == "(":
            value = self.sum()
            self.expect(")")
        elif word[:1].isdigit() or word[:1] == ".":
            value = Fraction(word)
        elif word in _FUNCTIONS and self.peek() == "(":
            value = self._call(word)
        elif word in self.names:
            value = Fraction(self.names[word])
        elif word[:1].isalpha() or word[:1] == "_":
            raise self.error(unknown_name("timing", word, self.names))
        else:
            raise self.error(f"unexpected {word!r}" if word else "ends too early")
        self.depth -= 1
        return value

    def _call(self, name: str) -> Fraction:
        self.expect("(")
        values = [self.sum()]
        while self.peek() == ",":
            self.take()
            values.append(self.sum())
        self.expect(")")
        if name in ("ceil", "floor") and len(values) != 1:
            raise self.error(f"{name} takes one value")
        return _FUNCTIONS[name](*values) if len(values) > 1 or name in ("ceil", "floor") else values[0]
