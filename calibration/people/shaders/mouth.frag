in vec3 P; in vec3 N; in vec4 C;
uniform float open, surface_class;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
void main() {
    vec3 n = normalize(N), V = normalize(camera - P), H = normalize(key_direction + V);
    float enamel = smoothstep(.55, .75, C.g / max(C.r, 1e-3)), lit = shadow(P, n), ao = C.a * mix(.32, 1., mix(open, smoothstep(0., .25, open), enamel));
    // Enamel scatters: soft light, hardly any edge between light and shade.
    float wrap = mix(.3, .5, enamel);
    vec3 light = (clamp((dot(n, key_direction) + wrap) / (1. + wrap), 0., 1.) * mix(mix(.18, .42, enamel), 1., lit) * key_colour * .75 + surround(n)) * ao;
    light *= mix(vec3(1.06, .97, .88), vec3(1), ao * ao);  // lips and gums have reddened what reaches the back
    vec3 gloss = key_colour * ggx(n, H, .07) * .012 * lit * ao + surround(reflect(-V, n)) * (.04 + .3 * schlick(dot(n, V))) * ao * ao;
    albedo_out = vec4(C.rgb, 1); light_out = vec4(light, .5); gloss_out = vec4(gloss, surface_class);
}
