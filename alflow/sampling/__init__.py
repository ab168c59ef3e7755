"""Walkers: molecular dynamics on the committee's mean, in segments that can be repeated bit for bit."""

from alflow.sampling.walkers import Bounds, Walker, run_segment

__all__ = ["Bounds", "Walker", "run_segment"]
