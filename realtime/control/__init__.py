"""The control page, the terminal view and the hotkeys: a process of their own beside the live one."""
