in vec3 P; in vec3 N; in vec3 D; in vec3 E;
uniform float surface_class;
uniform vec3 iris_outer, iris_inner; uniform float pupil; uniform vec2 lids;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
float h1(float x) { return fract(sin(x * 127.1) * 43758.5453); }
float n1(float x, float period) { float i = floor(x), f = fract(x); f = f * f * (3. - 2. * f); return mix(h1(mod(i, period)), h1(mod(i + 1., period)), f); }
void main() {
    vec3 n = normalize(N), V = normalize(camera - P), d = normalize(D);
    float theta = acos(clamp(d.z, -1., 1.)), u = atan(d.y, d.x) / 6.28318 + .5, r = theta / .435;
    float fibres = n1(u * 90., 90.) * .5 + n1(u * 41., 41.) * .3 + n1(u * 170. + 3., 170.) * .2;
    vec3 iris = mix(iris_inner, iris_outer, smoothstep(pupil, pupil + .35, r + .22 * (n1(u * 34., 34.) - .5))) * (.55 + .9 * fibres);
    iris *= 1. - .75 * smoothstep(.80, 1.0, r);
    iris *= 1.0 + .45 * clamp(dot(normalize(vec3(d.xy, 1e-4)), -normalize(vec3(key_direction.xy, .3))), 0., 1.);
    iris = mix(vec3(.004), iris, smoothstep(pupil - .05, pupil + .05, r));
    float vein = pow(n1(u * 60. + 6. * n1(theta * 14., 99.), 999.), 6.) * smoothstep(1.25, 2.4, r);
    vec3 white = vec3(.66, .60, .56) * mix(vec3(1), vec3(.95, .6, .55), .5 * vein + .30 * smoothstep(1.5, 2.7, r));
    vec3 albedo = mix(iris, white, smoothstep(.94, 1.06, r));
    // The lids shade the ball: darker near their edges and in the corners.
    float ao = mix(.35, 1., smoothstep(lids.y, lids.y - .55, E.y)) * mix(.5, 1., smoothstep(lids.x - .02, lids.x + .35, E.y))
             * mix(.45, 1., smoothstep(.98, .55, abs(E.x)));
    float lit = shadow(P, n);
    vec3 light = clamp((dot(n, key_direction) + .25) / 1.25, 0., 1.) * lit * key_colour * ao + surround(n) * ao * .9;
    vec3 H = normalize(key_direction + V), R = reflect(-V, n);
    float spec = ggx(n, H, .045) * .03 * .25 * mix(lit, 1., .4);
    vec3 gloss = min(spec * key_colour, vec3(3.)) * smoothstep(.05, .4, ao) + surround(R) * (.03 + .5 * schlick(dot(n, V))) * ao * 1.2;
    float window = smoothstep(.975, .985, dot(R, normalize(vec3(-.35, .55, .75))));
    gloss += window * sky_colour * .8 * ao * smoothstep(1.5, .9, r);
    albedo_out = vec4(albedo, 1); light_out = vec4(light, .4); gloss_out = vec4(gloss, surface_class);
}
