// Drawn teeth and tongue: flat colours.
in vec3 P; in vec3 N; in vec4 C;
uniform float open, surface_class;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
void main() {
    bool tooth = C.g > C.r * .7;
    vec3 albedo = tooth ? vec3(.90, .89, .88) : C.g > .15 ? vec3(.62, .20, .20) : vec3(.36, .07, .08);
    vec3 light = (sky_colour + ground_colour) * .5 + fill_colour * .6 + key_colour * (tooth ? .62 : .45);
    albedo_out = vec4(albedo * mix(.35, 1., smoothstep(.25, .6, C.a)), 1); light_out = vec4(light, 0); gloss_out = vec4(0, 0, 0, surface_class);
}
