"""Who does what: parallel degrees, placement, capacity, overlap."""
