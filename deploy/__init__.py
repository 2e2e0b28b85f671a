"""Ways to run Attain. Nothing in `services` or `shared` may import this package."""
