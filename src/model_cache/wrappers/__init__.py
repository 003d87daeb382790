"""Estimators and functions, cached like models."""
