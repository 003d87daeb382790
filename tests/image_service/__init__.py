"""Tests of the image service; its model takes an environment of its own: `make test-images`."""
