in vec3 position; in vec3 tangent; in vec3 normal; in vec4 shape; in float head_weight;
uniform mat4 view_projection; uniform vec4 hair_clip; uniform vec3 camera, head_rotation, head_pivot, head_shift;
out float clipped;
vec3 turn(vec3 v, vec3 axis, float angle) { float c = cos(angle), s = sin(angle); return v * c + cross(axis, v) * s + axis * dot(axis, v) * (1. - c); }
void main() {
    float angle = length(head_rotation) * head_weight;
    vec3 axis = angle > 1e-6 ? normalize(head_rotation) : vec3(0, 1, 0);
    vec3 x = turn(position - head_pivot, axis, angle) + head_pivot + head_shift * head_weight;
    vec3 t = turn(tangent, axis, angle), n = turn(normal, axis, angle);
    clipped = dot(hair_clip.xyz, position) - hair_clip.w;
    x += normalize(cross(t, normalize(n + .9 * normalize(camera - x))) + vec3(1e-5)) * shape.x * shape.y * .7 * clamp(shape.z, 0., 1.);
    gl_Position = view_projection * vec4(x, 1);
}
