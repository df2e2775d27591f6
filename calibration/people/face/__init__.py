"""What a face is painted and drawn with: skin, brows, lashes, eyes, mouth, expressions."""
