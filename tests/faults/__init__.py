"""The fault matrix: real servers, made to fail while threads predict without pause."""
