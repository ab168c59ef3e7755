"""The one door for files of structures and labels."""
