in vec2 place; in vec2 chart; in vec3 rest;
out vec3 R; out vec2 K;
void main() { R = rest; K = chart; gl_Position = vec4(place * 2. - 1., 0, 1); }
