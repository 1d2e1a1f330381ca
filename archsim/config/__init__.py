"""Schemas, loading and presets: everything between a YAML file and a validated description."""

from archsim.config.base import Config, Name, Preset
from archsim.config.loader import load, load_model, load_system

__all__ = ["Config", "Name", "Preset", "load", "load_model", "load_system"]
