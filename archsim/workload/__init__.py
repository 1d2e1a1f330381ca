"""Transformer models as operator graphs, and request traces."""
