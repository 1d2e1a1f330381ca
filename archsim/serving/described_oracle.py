"""An oracle from its description (kind `oracle`): coefficients, measured iterations, or measured operators."""

from __future__ import annotations

from pathlib import Path

from archsim.config.schemas.oracle import AffineCoefficients, AffineEnergy, MeasuredOperators, Oracle
from archsim.serving.measured_oracle import fit_measured
from archsim.serving.operator_oracle import OperatorOracle, read_attention, read_dense
from archsim.serving.oracle import AffineOracle, AffineTerms


def oracle_of(description: Oracle, folder: Path) -> AffineOracle | OperatorOracle:
    """The oracle a description stands for; files it names are relative to `folder`."""
    if description.operators is not None:
        return _of_operators(description, description.operators, folder)
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
        adapter_byte_s=description.adapter_read,
        adapter_flop_s=description.adapter_flop,
        name=description.name,
    )  # fmt: skip


def _of_operators(description: Oracle, how: MeasuredOperators, folder: Path) -> OperatorOracle:
    return OperatorOracle(
        description.name,
        read_dense(folder / Path(how.dense).expanduser(), how.only, how.runs, how.layers),
        read_attention(folder / Path(how.attention).expanduser(), how.only),
        how.layers,
        description.max_tokens,
        description.kv_bytes_per_token,
        description.usd_per_hour,
    )


def _terms(c: AffineCoefficients) -> AffineTerms:
    return AffineTerms(c.base, c.request, c.token, c.pair, c.context, c.from_decodes)
