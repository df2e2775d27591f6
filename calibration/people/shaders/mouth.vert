in vec3 position; in vec3 normal; in vec4 colour;
uniform mat4 view_projection;
out vec3 P; out vec3 N; out vec4 C;
void main() { P = position; N = normal; C = colour; gl_Position = view_projection * vec4(position, 1); }
