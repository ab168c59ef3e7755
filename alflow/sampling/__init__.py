"""Walkers: molecular dynamics on the committee's mean, in segments that can be repeated bit for bit."""

from alflow.sampling.walkers import Bounds, Segment, Walker, run_segment

__all__ = ["Bounds", "Segment", "Walker", "run_segment"]
