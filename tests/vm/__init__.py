"""System tests in a virtual machine that has the real thing: webcams, v4l2loopback, and the programs that read it."""
