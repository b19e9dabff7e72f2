"""The source network: run in onnxruntime, calibrated on rows, and matched with the spiking populations."""
