in vec3 position; in vec3 normal; in vec4 colour;
uniform mat4 view_projection; uniform vec3 camera;
out vec3 P; out vec3 N; out vec4 C;
void main() {
    P = position; N = normal; C = colour; gl_Position = view_projection * vec4(position, 1);
    // Counts as a little further away than it is: on narrow jaws the last teeth and gums must not come through the cheek.
    vec4 behind = view_projection * vec4(position + normalize(position - camera) * .07, 1);
    gl_Position.z = behind.z / behind.w * gl_Position.w;
}
