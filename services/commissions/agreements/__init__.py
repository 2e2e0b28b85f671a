"""What two persons agree on beside a plan, and what people disagree on."""
