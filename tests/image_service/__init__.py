"""Tests of the image service; its model needs its own environment: `make test-images`."""
