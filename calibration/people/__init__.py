"""Invented people: shape, skin, hair, motion, light, camera, render, truth."""
