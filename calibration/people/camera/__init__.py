"""From light to a webcam's picture: pinhole, lamps, rooms, lens, sensor, codec."""
