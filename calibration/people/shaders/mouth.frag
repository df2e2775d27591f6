in vec3 P; in vec3 N; in vec4 C;
uniform float open, surface_class;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
void main() {
    vec3 n = normalize(N), V = normalize(camera - P), H = normalize(key_direction + V);
    float lit = shadow(P, n), ao = C.a * (.35 + .65 * open);
    vec3 light = (clamp((dot(n, key_direction) + .3) / 1.3, 0., 1.) * mix(.25, 1., lit) * key_colour * .8 + surround(n)) * ao;
    vec3 gloss = key_colour * ggx(n, H, .09) * .01 * lit * ao + surround(reflect(-V, n)) * .05 * ao;
    albedo_out = vec4(C.rgb, 1); light_out = vec4(light, .5); gloss_out = vec4(gloss, surface_class);
}
