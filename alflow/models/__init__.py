"""Models whose committees alflow trains or takes, one package or module for each kind."""
