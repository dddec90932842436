"""Axis names of the jaxtyping annotations, once."""
