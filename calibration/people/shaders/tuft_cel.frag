// Drawn hair: two tones and one bright band, with strands only at the edges.
in vec2 UV; in vec2 Cover; in vec3 Albedo; in vec3 Light; in vec3 Gloss; in vec3 Rim; in float Along; in float clipped;
uniform sampler2D strand_map; uniform float surface_class;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
void main() {
    vec4 s = texture(strand_map, UV);
    float edge = Cover.y * Cover.y;
    if (clipped > 0. || s.r > Cover.x * (1. - .75 * edge * edge)) discard;
    float level = dot(Light, vec3(.33)), tone = smoothstep(.34, .40, level + .10 * (s.g - .5));
    vec3 hue = Light / max(level, .05);
    float band = smoothstep(.10, .06, abs(Along + .10 * (s.b - .5)));
    vec3 albedo = pow(Albedo, vec3(.80)) * (.92 + .16 * step(.5, s.g));
    albedo_out = vec4(albedo, 1);
    light_out = vec4(mix(vec3(1), hue, .7) * mix(.46, .92, tone), 0);
    gloss_out = vec4(band * tone * (albedo * .9 + .05) * min(Gloss, vec3(1.2)) * .5, surface_class);
}
