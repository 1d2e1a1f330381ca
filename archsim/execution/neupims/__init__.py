"""NPU core and PIM channels of a NeuPIMs device simulated together, one decoder layer at a time."""

from archsim.execution.neupims.layer import (
    LayerShape,
    NeupimsAttentionResult,
    NeupimsLayerResult,
    simulate_neupims_attention,
    simulate_neupims_layer,
)

__all__ = [
    "LayerShape",
    "NeupimsAttentionResult",
    "NeupimsLayerResult",
    "simulate_neupims_attention",
    "simulate_neupims_layer",
]
