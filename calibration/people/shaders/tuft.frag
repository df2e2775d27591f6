in vec2 UV; in vec2 Cover; in vec3 Albedo; in vec3 Light; in vec3 Gloss; in vec3 Rim; in float Along; in float clipped;
uniform sampler2D strand_map; uniform float surface_class;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
void main() {
    vec4 s = texture(strand_map, UV);
    float edge = Cover.y * Cover.y;
    if (clipped > 0. || s.r > Cover.x * (1. - .75 * edge * edge)) discard;  // under a cap, or between strands
    // Light goes through fair hair: its strands differ less.
    float bright = .845 + (.85 * (s.g - .5) + .40 * (s.a - .5)) * (1. - min(1.6 * Albedo.g, .5));
    // Two lobes shifted along the strand (Marschner et al. 2003), as Gaussians of the angle.
    float a = Along - .09 + .22 * (s.b - .5), b = Along + .15 + .30 * (s.b - .5);
    vec3 gloss = Gloss * (exp(-30. * a * a) * .042 + exp(-8. * b * b) * .52 * Albedo) * (.35 + 1.3 * s.g);
    albedo_out = vec4(Albedo * (bright + vec3(.10, .02, -.10) * (s.b - .5)), 1); light_out = vec4(Light, 0); gloss_out = vec4(gloss + Rim * bright, surface_class);
}
