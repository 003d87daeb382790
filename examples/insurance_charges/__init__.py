"""The example model: a person's yearly health insurance charges."""
