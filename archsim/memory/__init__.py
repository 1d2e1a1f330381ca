"""DRAM and PIM command simulation: devices, streams, controllers, programs."""
