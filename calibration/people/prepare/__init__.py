"""Run once, by hand: cut and measure what the renderer ships as data."""
