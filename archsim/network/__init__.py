"""Links, topologies and collectives."""
