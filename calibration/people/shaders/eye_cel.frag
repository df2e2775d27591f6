// Drawn eyes: a big iris with a gradient, a dark upper half, two fixed highlights.
in vec3 P; in vec3 N; in vec3 D; in vec3 E;
uniform float surface_class; uniform vec3 iris_outer, iris_inner; uniform float pupil; uniform vec2 lids;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
void main() {
    vec3 d = normalize(D);
    float r = acos(clamp(d.z, -1., 1.)) / .62;
    vec3 hue = (iris_outer + iris_inner) * .5; hue = pow(hue / max(max(hue.r, hue.g), hue.b), vec3(1.15));
    float low = smoothstep(.55, -.75, d.y / .62);
    vec3 iris = hue * mix(.10, .62, low);
    iris = mix(iris, vec3(.012), 1. - smoothstep(.36, .42, length(vec2(d.x, d.y * .82)) / .62));
    iris *= 1. - .85 * smoothstep(.82, .92, r);
    vec3 albedo = mix(iris, vec3(.86, .86, .90), smoothstep(.97, 1.03, r));
    // The upper lid's shadow over white and iris.
    albedo *= mix(vec3(.50, .47, .60), vec3(1), smoothstep(lids.y - .20, lids.y - .30, E.y));
    // Highlights stay in the drawing, whatever the light: that is how eyes are drawn.
    vec2 q = E.xy / .62;
    float shine = 1. - smoothstep(.24, .28, length((q - vec2(-.34, .42)) * vec2(1., .85)));
    shine = max(shine, .8 * (1. - smoothstep(.11, .14, length(q - vec2(.36, -.40)))));
    albedo = mix(albedo, vec3(.95), shine * (1. - smoothstep(.97, 1.2, r)));
    vec3 light = (sky_colour + ground_colour) * .55 + fill_colour * .8 + key_colour * .68;
    albedo_out = vec4(albedo, 1); light_out = vec4(light, 0); gloss_out = vec4(0, 0, 0, surface_class);
}
