"""Programs of PIM commands: AttAcc's attention, GEMV on AiM and HBM-PIM, and the engine they share."""
