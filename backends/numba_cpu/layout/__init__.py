"""How weights and spikes lie in memory for each kind of kernel."""
