"""Measured GPU operators: table rows as operators, and the fit of kernel constants to them."""
