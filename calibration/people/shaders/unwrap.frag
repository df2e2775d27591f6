in vec3 R; out vec4 position_out;
void main() { position_out = vec4(R, 1); }
