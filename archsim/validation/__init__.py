"""Fidelity: archsim against folders of reference data, each described by its manifest.yaml."""

from archsim.validation.framework import validate
from archsim.validation.registry import KINDS, ValidationKind
from archsim.validation.statistics import ValidationReport

__all__ = ["KINDS", "ValidationKind", "ValidationReport", "validate"]
