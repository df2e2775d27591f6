in vec3 P; in vec3 N; in vec2 UV; in vec3 B; in float AO;
uniform sampler2D skin_colour; uniform sampler2D skin_relief;
uniform vec3 mean_skin, cloth; uniform float neckline; uniform vec4 uv_window;

float hash(vec3 p) { p = fract(p * .3183099 + .1); p *= 17.; return fract(p.x * p.y * p.z * (p.x + p.y + p.z)); }
float value_noise(vec3 x) {
    vec3 i = floor(x), f = fract(x);
    f = f * f * (3. - 2. * f);
    return mix(mix(mix(hash(i), hash(i + vec3(1, 0, 0)), f.x), mix(hash(i + vec3(0, 1, 0)), hash(i + vec3(1, 1, 0)), f.x), f.y),
               mix(mix(hash(i + vec3(0, 0, 1)), hash(i + vec3(1, 0, 1)), f.x),
                   mix(hash(i + vec3(0, 1, 1)), hash(i + vec3(1, 1, 1)), f.x), f.y), f.z);
}
vec2 island() { return vec2((UV.x - uv_window.x) / (uv_window.y - uv_window.x), (UV.y - uv_window.z) / (uv_window.w - uv_window.z)); }
bool on_head() { vec2 c = island(); return B.y > 5.2 && c.x > 0. && c.x < 1. && c.y > 0. && c.y < 1.; }
// How far below the neckline of the shirt, in decimetres on the average body.
float below_neckline() {
    float r = length(vec2(B.x, (B.z - .15) * .9));
    return (neckline - .10 * smoothstep(.2, 1.2, B.z) + .35 * smoothstep(.35, .9, r)) - B.y;
}
