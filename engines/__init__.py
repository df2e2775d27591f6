"""Nouns, geometry, networks, training, export, runtimes: what knows neither cameras nor people."""
