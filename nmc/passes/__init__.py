"""What is done to a program, one folder per stage."""
