"""Whether this installation is well: small checks, each of which ends in findings."""
