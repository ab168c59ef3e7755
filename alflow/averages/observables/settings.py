"""The tables ``[[observable]]``: observables of the user's own."""

from pydantic import Field

from alflow.section import Section


class UserObservable(Section):
    """An observable of your own, for `alflow average` and ``[converge]``; one ``[[observable]]`` for each."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="by which it is asked for; unique")
    function: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="module:function of the structure (ASE Atoms), a number or an array; module.py may be here",
    )
    unit: str = Field("", description="of what it returns")
    committee: bool = Field(
        False, description="it returns a value of each of several models of the property, along the first axis"
    )
