"""What a person decides before pay moves."""
