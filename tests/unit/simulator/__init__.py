"""Tests of the simulated company and of the second opinion on it."""
