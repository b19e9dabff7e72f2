"""Convert to a budget: try many conversions on few rows, and make the best of those that keep to it.

Latency, operations, payload and accuracy pull at each other, so there is a front of conversions none of
which is better in everything. Candidates are presets, numbers of steps, levels (everywhere, or in the
layers that are measured to be the most sensitive), spikes a step, settle steps and fine skips; what can be
known of one without running it is checked first. Each of the others is converted with some of the
calibration rows and measured on rows kept back. Those within the budget are then made with all rows, the
best first, until one of them keeps to the budget as measured. Where nothing does, the thresholds of the
nearest are learned, over the whole network, with a price on operations where these are what is missing; and
where operations are still all that is too many, channels are pruned until they are not.
"""
