in vec3 position; in vec3 tangent; in vec4 shape; in vec3 colour;
uniform mat4 view_projection; uniform vec3 camera;
out vec3 P; out vec3 T; out vec4 Q; out vec3 C;
void main() {
    vec3 across = normalize(cross(tangent, normalize(camera - position)) + vec3(1e-5));
    P = position + across * shape.x * shape.y; T = tangent; Q = shape; C = colour;
    gl_Position = view_projection * vec4(P, 1);
}
