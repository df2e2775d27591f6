in vec3 position; in vec3 tangent; in vec3 normal; in vec4 shape; in vec2 uv; in vec3 colour; in float head_weight;
uniform mat4 view_projection; uniform vec4 hair_clip; uniform vec3 head_rotation, head_pivot, head_shift;
uniform float shine;
out vec2 UV; out vec2 Cover; out vec3 Albedo; out vec3 Light; out vec3 Gloss; out vec3 Rim; out float Along; out float clipped;
vec3 turn(vec3 v, vec3 axis, float angle) { float c = cos(angle), s = sin(angle); return v * c + cross(axis, v) * s + axis * dot(axis, v) * (1. - c); }
// All light is computed per vertex (Kajiya and Kay 1989): tufts are small and many, fragments only choose strands.
void main() {
    float angle = length(head_rotation) * head_weight;
    vec3 axis = angle > 1e-6 ? normalize(head_rotation) : vec3(0, 1, 0);
    vec3 x = turn(position - head_pivot, axis, angle) + head_pivot + head_shift * head_weight;
    vec3 t = turn(tangent, axis, angle), n = turn(normal, axis, angle), V = normalize(camera - x);
    clipped = dot(hair_clip.xyz, position) - hair_clip.w;
    // Half lying on the head, half facing the camera: neither edge-on at the outline nor swimming when the head turns.
    vec3 across = normalize(cross(t, normalize(n + .9 * V)) + vec3(1e-5));
    x += across * shape.x * shape.y * .5;
    vec3 round_n = normalize(n + across * shape.x * .35);
    float lit = mix(.12, 1., soft_shadow(x + n * .03, n)), tl = dot(t, key_direction);
    float wrap = clamp(dot(round_n, key_direction) * .65 + .4, 0., 1.), depth = shape.w;
    Light = sqrt(max(0., 1. - tl * tl)) * wrap * lit * key_colour * .75 * mix(.3, 1., depth) + surround(round_n) * depth * .9
          + rim_colour * clamp(dot(round_n, rim_direction), 0., 1.) * .7 * depth;
    vec3 H = normalize(key_direction + V), Hr = normalize(rim_direction + V);
    Along = dot(t, H);
    Gloss = shine * key_colour * lit * wrap * depth;
    float tr = dot(t, Hr);
    Rim = shine * rim_colour * colour * .7 * exp(-14. * tr * tr) * clamp(dot(round_n, rim_direction) + .3, 0., 1.) * depth;
    Albedo = colour; UV = uv; Cover = vec2(shape.z, shape.x); gl_Position = view_projection * vec4(x, 1);
}
