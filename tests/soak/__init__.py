"""`make soak`: the product as a small town under faults, with what must hold checked all the time."""
