"""Learning by gradients: networks of both dialects as modules of torch, and how they are tuned."""
