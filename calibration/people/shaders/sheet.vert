// Two triangles over the whole texture.
in vec2 corner;
void main() { gl_Position = vec4(corner, 0, 1); }
