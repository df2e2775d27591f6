"""What runs inside the guest. Nothing here is imported by the tests that run outside of it, but the frame code."""
