"""What averages are taken over: production runs and samples of alflow, trajectories of i-PI, plain arrays.

Every source is read from its beginning in pieces that fit into memory.
"""
