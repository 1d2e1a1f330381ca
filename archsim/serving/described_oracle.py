"""An affine oracle from its description (kind `oracle`)."""

from __future__ import annotations

from archsim.config.schemas.oracle import AffineCoefficients, AffineEnergy, Oracle
from archsim.serving.oracle import AffineOracle, AffineTerms


def oracle_of(description: Oracle) -> AffineOracle:
    """The oracle a description stands for."""
    common, energy = description.seconds, description.energy or AffineEnergy()
    return AffineOracle(
        common.base, common.request, common.token, common.pair, common.context,
        max_tokens=description.max_tokens,
        kv_bytes_per_token=description.kv_bytes_per_token,
        usd_per_hour=description.usd_per_hour,
        prompts=tuple(map(_terms, description.prompts)),
        decodes=tuple(map(_terms, description.decodes)),
        base_j=energy.base_j,
        per_request_j=energy.request_j,
        per_prompt_token_j=energy.token_j,
        per_prompt_pair_j=energy.pair_j,
        per_context_token_j=energy.context_j,
        name=description.name,
    )  # fmt: skip


def _terms(c: AffineCoefficients) -> AffineTerms:
    return AffineTerms(c.base, c.request, c.token, c.pair, c.context, c.from_decodes)
