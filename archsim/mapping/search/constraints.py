"""What a user demands of a plan, as text: parallel degrees, transformations, places, boundaries."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from archsim.errors import UsageError, suggest

DEGREES = ("dp", "tp", "pp", "micro_batches", "interleave")
_COMPARE = {"=": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge}
_FORM = re.compile(r"\s*([\w*?.\[\]-]+)\s*(<=|>=|!=|=)\s*([\w*? -]+?)\s*")
_RANGE = re.compile(r"(layers?|devices?)\s+(\d+)(?:-(\d+))?")
_GRAMMAR = (
    "allowed: dp|tp|pp|micro_batches|interleave (=|!=|<=|>=) NUMBER, OPERATOR (=|!=) TRANSFORM, "
    "OPERATOR != co-shard, layers A-B = devices C-D, cut = LAYER"
)


@dataclass(frozen=True)
class Constraints:
    """Parsed constraints; the empty one allows everything.

    degrees     (name, comparison, number)
    transforms  (operator pattern, comparison, transformation pattern), shell-style patterns
    places      (first layer, last layer, first device, last device), all counted from 0 and included
    cuts        layers in front of which a stage must begin
    """

    degrees: tuple[tuple[str, str, int], ...] = ()
    transforms: tuple[tuple[str, str, str], ...] = ()
    places: tuple[tuple[int, int, int, int], ...] = ()
    cuts: tuple[int, ...] = ()

    def allows_degree(self, name: str, value: int) -> bool:
        """Whether a parallel degree may have this value."""
        return all(_COMPARE[sign](value, number) for key, sign, number in self.degrees if key == name)

    def allows_transform(self, name: str, transform: str) -> bool:
        """Whether an operator may be run this way."""
        co_shard = transform.endswith("pieces")
        for pattern, sign, wanted in self.transforms:
            if not fnmatchcase(name, pattern):
                continue
            matches = co_shard if wanted == "co-shard" else fnmatchcase(transform.partition(" ")[0], wanted)
            if matches != (sign == "="):
                return False
        return True

    def layer_bounds(self, layers: int, devices: int) -> tuple[list[int], list[int]]:
        """Per layer the first device, and the one past the last, that its stage may use."""
        low, high = [0] * layers, [devices] * layers
        for first, last, begin, end in self.places:
            for layer in range(first, min(last, layers - 1) + 1):
                low[layer], high[layer] = max(low[layer], begin), min(high[layer], end + 1)
        return low, high


def parse_constraints(texts: Iterable[str], operators: Iterable[str], layers: int, devices: int) -> Constraints:
    """Read constraints. Raises UsageError with the text, what was found and what is allowed."""
    degrees: list[tuple[str, str, int]] = []
    transforms: list[tuple[str, str, str]] = []
    places: list[tuple[int, int, int, int]] = []
    cuts: list[int] = []
    known = list(operators)
    for text in texts:
        if _RANGE.match(text.strip()):
            places.append(_place(text, layers, devices))
            continue
        found = _FORM.fullmatch(text)
        if found is None:
            raise UsageError(f"constraint {text!r} is not understood ({_GRAMMAR})")
        name, sign, value = found.groups()
        if name == "cut":
            cuts.append(_number(text, value, 1, layers - 1))
        elif name in DEGREES:
            degrees.append((name, sign, _number(text, value, 1, 1_000_000)))
        else:
            transforms.append(_transform(text, name, sign, value, known))
    return Constraints(tuple(degrees), tuple(transforms), tuple(places), tuple(sorted(set(cuts))))


def _number(text: str, value: str, least: int, most: int) -> int:
    if not value.isdigit() or not least <= int(value[:9]) <= most:
        raise UsageError(f"constraint {text!r}: found {value!r}, expected a whole number from {least} to {most}")
    return int(value)


def _transform(text: str, name: str, sign: str, value: str, known: list[str]) -> tuple[str, str, str]:
    if not any(fnmatchcase(operator_name, name) for operator_name in known):
        options = [*known, *DEGREES, "cut"]
        raise UsageError(f"constraint {text!r}: no operator or degree {name!r}{suggest(name, options)} ({_GRAMMAR})")
    if sign in ("<=", ">="):
        raise UsageError(f"constraint {text!r}: a transformation takes = or !=, found {sign}")
    names = ("replicate", "tokens", "sequence", "columns", "rows", "heads", "experts", "partial", "co-shard")
    if not any(fnmatchcase(one, value) for one in names):
        hint = suggest(value, names)
        raise UsageError(f"constraint {text!r}: no transformation {value!r}{hint} (allowed: {', '.join(names)})")
    return name, sign, value


def _place(text: str, layers: int, devices: int) -> tuple[int, int, int, int]:
    left, _, right = text.partition("=")
    sides = [_RANGE.fullmatch(side.strip()) for side in (left, right)]
    if None in sides or not right:
        raise UsageError(f"constraint {text!r} is not understood ({_GRAMMAR})")
    limits = {"l": ("layer", layers), "d": ("device", devices)}
    numbers: list[int] = []
    for side, expected in zip(sides, "ld", strict=True):
        assert side is not None
        what, count = limits[expected]
        if not side[1].startswith(what):
            raise UsageError(f"constraint {text!r}: expected layers on the left and devices on the right")
        first, last = int(side[2]), int(side[3] or side[2])
        if not first <= last < count:
            raise UsageError(f"constraint {text!r}: {what}s go from 0 to {count - 1}, found {first}-{last}")
        numbers += [first, last]
    return numbers[0], numbers[1], numbers[2], numbers[3]
