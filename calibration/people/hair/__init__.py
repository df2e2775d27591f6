"""Hair and beards as tufts of strands."""
