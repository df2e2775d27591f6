"""The head and body that everything else sits on: shape, normals, texture places, clothes."""
