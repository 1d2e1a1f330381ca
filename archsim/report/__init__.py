"""Sinks for results: terminal tables, JSON, HDF5, Perfetto and HTML. They see nothing but `archsim.results`."""

from archsim.report.json_text import json_text

__all__ = ["json_text"]
