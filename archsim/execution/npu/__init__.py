"""NPU programs: tiles on {DMA, array, vector unit}, joined with the DRAM command engine."""
