"""Probes: real programs on the stack, against stock peers; the proof is what the stack carried."""
