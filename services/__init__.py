"""The services of Attain. They import `shared`, and never one another."""
