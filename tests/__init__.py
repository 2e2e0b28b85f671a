"""The tests of Attain; CONTRIBUTING.md says which kind lives where."""
