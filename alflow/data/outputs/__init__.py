"""What outputs of codes say, as text: of calculations that alflow has run, and of those that a user has."""
