"""The example model: what a person's health insurance is charged for them in a year."""
