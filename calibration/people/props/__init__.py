"""What streamers wear and hold: glasses, headphones, microphones, caps, hands."""
