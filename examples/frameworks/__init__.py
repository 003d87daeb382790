"""Model servers with a prediction cache: one file for each framework."""
