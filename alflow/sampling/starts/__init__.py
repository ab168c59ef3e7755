"""What a run can begin with where its user has a structure or two: structures made of them, to be labelled first."""
