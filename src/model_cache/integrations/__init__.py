"""Integrations with other software. Each module needs an extra and is imported on first use."""
