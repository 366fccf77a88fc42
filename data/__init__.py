"""Examples in an order that is a pure function of (seed, position): decoded, augmented, batched."""
