"""People, data sets and training: everything before a persona runs. Never imports realtime."""
