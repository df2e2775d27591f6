// Glass, in two passes: first what it lets through (multiplied), then what it reflects (added).
in vec3 P; in vec3 N; in vec3 L; in float S; in float A; in float D;
uniform vec4 tint; uniform vec3 coating, veil; uniform float reflecting;
uniform mat4 source0, source1, source2;  // columns: direction and half width; colour and half height; (bars, 0, 0, 0)
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;

vec3 rectangle(mat4 source, vec3 r) {
    vec3 z = normalize(source[0].xyz), x = normalize(cross(vec3(0, 1, 0), z)), y = cross(z, x);
    float ahead = dot(r, z);
    if (ahead < .05 || source[0].w <= 0.) return vec3(0);
    vec2 q = abs(vec2(dot(r, x), dot(r, y)) / ahead), h = vec2(source[0].w, source[1].w);
    vec2 e = smoothstep(h + .02, h - .02, q);
    float bar = source[2].x > .5 ? smoothstep(.010, .022, q.x) * smoothstep(.010, .022, abs(q.y - h.y * .3)) : 1.;
    return source[1].rgb * e.x * e.y * bar;
}
void main() {
    if (reflecting < .5) { albedo_out = vec4(tint.rgb, 1); light_out = vec4(1); gloss_out = vec4(tint.rgb, 1); return; }
    vec3 V = normalize(camera - P), n = normalize(N);
    if (dot(n, V) < 0.) n = -n;
    vec3 R = reflect(-V, n), H = normalize(key_direction + V);
    vec3 room = rectangle(source0, R) + rectangle(source1, R) + rectangle(source2, R) + surround(R) * .5;
    float fresnel = .05 + .95 * schlick(dot(n, V));
    vec3 gloss = coating * room * fresnel + key_colour * ggx(n, H, .05) * .03 * .25 * coating;
    gloss = min(gloss, vec3(3)) + veil * (surround(n) + key_colour * .5 * max(dot(n, key_direction), 0.));
    // Hidden as far as the reflection outshines what is behind.
    float opacity = max(1. - exp(-1.6 * max(max(gloss.r, max(gloss.g, gloss.b)) - .02, 0.)), tint.a);
    albedo_out = vec4(0, 0, 0, opacity); light_out = vec4(0); gloss_out = vec4(gloss, 0);
}
