"""Processor models: GPU, CPU, NPU. They know operations, not transformers."""
