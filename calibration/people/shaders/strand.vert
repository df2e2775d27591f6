in vec3 position; in vec3 tangent; in vec4 shape; in vec3 colour; in float head_weight;
uniform mat4 view_projection; uniform vec3 camera; uniform vec4 hair_clip; uniform vec3 head_rotation, head_pivot, head_shift;
out vec3 P; out vec3 T; out vec4 Q; out vec3 C; out float clipped;
invariant gl_Position;
vec3 turn(vec3 v, vec3 axis, float angle) { float c = cos(angle), s = sin(angle); return v * c + cross(axis, v) * s + axis * dot(axis, v) * (1. - c); }
void main() {
    float angle = length(head_rotation);
    vec3 axis = angle > 1e-6 ? head_rotation / angle : vec3(0, 1, 0);
    vec3 x = turn(position - head_pivot, axis, angle * head_weight) + head_pivot + head_shift * head_weight;
    clipped = dot(hair_clip.xyz, position) - hair_clip.w;
    vec3 t = turn(tangent, axis, angle * head_weight);
    vec3 across = normalize(cross(t, normalize(camera - x)) + vec3(1e-5));
    x += across * shape.x * shape.y;
    P = x; T = t; Q = shape; C = colour; gl_Position = view_projection * vec4(x, 1);
}
