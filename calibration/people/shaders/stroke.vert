in vec2 place; in vec4 tint; in float side;
out vec4 C; out float S;
void main() { C = tint; S = side; gl_Position = vec4(place * 2. - 1., 0, 1); }
