"""Events: the envelope of every message, the catalogue of types, the models of their data."""
