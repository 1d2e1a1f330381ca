"""The channels of a NeuPIMs device: memory and PIM commands on one command bus, two row buffers a bank."""
