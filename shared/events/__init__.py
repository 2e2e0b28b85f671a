"""Events: the envelope every message wears, the catalogue of types, and the models of their data."""
