"""The five steps of a cycle, each a function from settings and earlier records to a record.

``sample -> select -> label -> train -> assess``; cycle 0 labels, trains on and assesses the initial structures.
Steps read and return records; committing them is the loop's business. What is long inside a step is durable in
pieces: a walker's segments and every single reference result, each a file of its own from the moment it exists.
"""
