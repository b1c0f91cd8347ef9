"""Number formats of digital arithmetic and storage: integers, narrow floats, microscaling, each with its scales."""
