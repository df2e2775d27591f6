in vec2 uv; in vec3 rest;
out vec3 R;
void main() { R = rest; gl_Position = vec4(uv, 0, 1); }
