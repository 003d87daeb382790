"""What Redis holds for a prediction, and how it is read again.

The codec turns predictions into bytes with a serder and a compressor, and verifies on write that
they come back unchanged. This package knows neither how keys are made nor where entries go.
"""
