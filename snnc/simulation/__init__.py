"""Running a spiking network: the protocol of simulators, the exact reference, partial runs."""
