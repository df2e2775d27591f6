"""The live path, its devices and the command line."""
