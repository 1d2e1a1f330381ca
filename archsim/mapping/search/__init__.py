"""Search for parallel plans: how every operator is split, which layers go where, how the batch is cut up."""
