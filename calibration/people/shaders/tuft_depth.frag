in float clipped;
out vec4 nothing;
void main() { if (clipped > 0.) discard; nothing = vec4(1); }
