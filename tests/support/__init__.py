"""What tests of several kinds lean on: the stack they run against, builders, the simulator."""
