// A stroke of the pen.
in vec3 P; in vec3 T; in vec4 Q; in vec3 C;
uniform float surface_class;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
void main() {
    vec3 light = (sky_colour + ground_colour) * .55 + fill_colour * .8 + key_colour * .6;
    albedo_out = vec4(C, 1); light_out = vec4(light, 0); gloss_out = vec4(0, 0, 0, surface_class);
}
