"""The host section: which operations stay ordinary ONNX, and the two models that a network is cut into."""
