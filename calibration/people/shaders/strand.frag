in vec3 P; in vec3 T; in vec4 Q; in vec3 C;
uniform vec3 head_centre; uniform float shine, root_light, surface_class;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
// Kajiya and Kay 1989 with two shifted lobes (Marschner et al. 2003).
float lobe(vec3 t, vec3 h, float power) { return pow(max(0., sqrt(max(0., 1. - pow(dot(t, h), 2.)))), power); }
void main() {
    vec3 V = normalize(camera - P), t = normalize(T), n = normalize(P - head_centre);
    float lit = mix(.10, 1., soft_shadow(P, n)), tl = dot(t, key_direction);
    float wrap = clamp(dot(n, key_direction) * .6 + .45, 0., 1.);
    float ao = mix(root_light, 1., smoothstep(0., .55, Q.z)) * (.75 + .5 * Q.w);
    vec3 light = sqrt(max(0., 1. - tl * tl)) * wrap * lit * key_colour * .75 + surround(n) * ao * .9
               + rim_colour * clamp(dot(n, rim_direction), 0., 1.) * .8;
    light *= mix(.8, 1., ao);
    vec3 tn = normalize(cross(normalize(cross(t, n) + vec3(1e-5)), t));
    vec3 t1 = normalize(t + tn * (-.08 + .10 * (Q.w - .5))), t2 = normalize(t + tn * (.14 + .12 * (Q.w - .5)));
    vec3 H = normalize(key_direction + V), Hr = normalize(rim_direction + V);
    vec3 gloss = shine * (lobe(t1, H, 110.) * .10 * vec3(1) + lobe(t2, H, 24.) * .55 * C) * key_colour * lit * wrap * ao;
    gloss += shine * rim_colour * (.05 + .6 * C) * lobe(t2, Hr, 20.) * clamp(dot(n, rim_direction) + .3, 0., 1.) * ao;
    albedo_out = vec4(C * (.75 + .5 * Q.w), 1); light_out = vec4(light, 0); gloss_out = vec4(gloss, surface_class);
}
