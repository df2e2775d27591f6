in vec3 position; in vec3 normal; in vec2 uv; in vec3 rest; in vec2 occlusion;
uniform mat4 view_projection;
out vec3 P; out vec3 N; out vec2 UV; out vec3 B; out vec2 AO;
void main() { P = position; N = normal; UV = uv; B = rest; AO = occlusion; gl_Position = view_projection * vec4(position, 1); }
