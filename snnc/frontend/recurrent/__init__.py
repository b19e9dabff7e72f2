"""LSTM, GRU and RNN: what their nodes say, the equations of one step, all steps as ordinary operations."""
