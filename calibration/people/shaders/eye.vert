in vec3 position; in vec3 normal; in vec3 direction; in vec3 turned;
uniform mat4 view_projection;
out vec3 P; out vec3 N; out vec3 D; out vec3 E;
void main() { P = position; N = normal; D = direction; E = turned; gl_Position = view_projection * vec4(position, 1); }
