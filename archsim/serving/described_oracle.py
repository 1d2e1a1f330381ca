"""An affine oracle from its description (kind `oracle`): coefficients, or a file of measured iterations."""

from __future__ import annotations

from pathlib import Path

from archsim.config.schemas.oracle import AffineCoefficients, AffineEnergy, Oracle
from archsim.serving.measured_oracle import fit_measured
from archsim.serving.oracle import AffineOracle, AffineTerms


def oracle_of(description: Oracle, folder: Path) -> AffineOracle:
    """The oracle a description stands for; a file of measured iterations is relative to `folder`."""
    energy = description.energy or AffineEnergy()
    if description.seconds is not None:
        common = _terms(description.seconds)
        prompts, decodes = tuple(map(_terms, description.prompts)), tuple(map(_terms, description.decodes))
    else:
        fit = fit_measured(folder / Path(description.measured or "").expanduser())
        common, prompts, decodes = fit.common, fit.prompts, fit.decodes
    return AffineOracle(
        common.base_s, common.per_request_s, common.per_prompt_token_s, common.per_prompt_pair_s,
        common.per_context_token_s,
        max_tokens=description.max_tokens,
        kv_bytes_per_token=description.kv_bytes_per_token,
        usd_per_hour=description.usd_per_hour,
        prompts=prompts,
        decodes=decodes,
        base_j=energy.base_j,
        per_request_j=energy.request_j,
        per_prompt_token_j=energy.token_j,
        per_prompt_pair_j=energy.pair_j,
        per_context_token_j=energy.context_j,
        name=description.name,
    )  # fmt: skip


def _terms(c: AffineCoefficients) -> AffineTerms:
    return AffineTerms(c.base, c.request, c.token, c.pair, c.context, c.from_decodes)
